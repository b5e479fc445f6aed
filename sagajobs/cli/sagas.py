"""`sagas`: the commands on sagas, for `sagajobs sagas …` and, as a plug-in, for `celery -A … sagas …`."""

from __future__ import annotations

import click

from sagajobs.cli.groups import LazyGroup

OF_SAGAS = {
    "list": "sagajobs.cli.listing:list_sagas",
    "find": "sagajobs.cli.listing:find",
    "show": "sagajobs.cli.timeline:show",
    "watch": "sagajobs.cli.watch:watch",
    "stats": "sagajobs.cli.stats:stats",
    "graph": "sagajobs.cli.graph:graph",
    "review": "sagajobs.cli.review:review",
    "explain": "sagajobs.cli.review:explain",
    "retry": "sagajobs.cli.remedies:retry",
    "skip": "sagajobs.cli.remedies:skip",
    "resolve": "sagajobs.cli.remedies:resolve",
    "abandon": "sagajobs.cli.remedies:abandon",
    "pause": "sagajobs.cli.control:pause",
    "resume": "sagajobs.cli.control:resume",
    "cancel": "sagajobs.cli.control:cancel",
    "follow": "sagajobs.cli.follow:follow",
    "enable": "sagajobs.cli.switch:enable",
    "disable": "sagajobs.cli.switch:disable",
}
"""Commands on sagas: name to where it is."""

OF_THE_WHOLE = {
    "demo": "sagajobs.cli.demo.command:demo",
    "up": "sagajobs.cli.up:up",
    "health": "sagajobs.cli.health:health",
    "findings": "sagajobs.cli.findings:findings",
    "invariants": "sagajobs.cli.invariants:invariants",
    "check": "sagajobs.cli.check:check",
    "ready": "sagajobs.cli.ready:ready",
    "sweep": "sagajobs.cli.sweep:sweep",
    "events": "sagajobs.cli.events:events",
    "webhooks": "sagajobs.cli.webhooks:webhooks",
    "purge": "sagajobs.cli.purge:purge",
    "settings": "sagajobs.cli.settings:settings",
    "db": "sagajobs.cli.database:db",
    "simulator": "sagajobs.cli.simulator:simulator",
}
"""Commands on all that belongs to them."""


@click.group(
    cls=LazyGroup,
    commands_at=OF_SAGAS,
    also_at=OF_THE_WHOLE,
    epilog="The other commands of `sagajobs` are taken here, too: `celery -A … sagas invariants`.",
)
def sagas() -> None:
    """Look at sagas, settle what waits for a person, and stop what is under way."""
