"""`sagas`: the commands on sagas, for `sagajobs sagas …` and, as a plug-in, for `celery -A … sagas …`."""

from __future__ import annotations

import click

from sagajobs.cli.groups import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_at={
        "list": "sagajobs.cli.listing:list_sagas",
        "find": "sagajobs.cli.listing:find",
        "show": "sagajobs.cli.timeline:show",
        "review": "sagajobs.cli.review:review",
        "explain": "sagajobs.cli.review:explain",
        "retry": "sagajobs.cli.review:retry",
        "skip": "sagajobs.cli.review:skip",
        "resolve": "sagajobs.cli.review:resolve",
        "abandon": "sagajobs.cli.review:abandon",
        "pause": "sagajobs.cli.control:pause",
        "resume": "sagajobs.cli.control:resume",
        "cancel": "sagajobs.cli.control:cancel",
        "check": "sagajobs.cli.check:check",
        "enable": "sagajobs.cli.switch:enable",
        "disable": "sagajobs.cli.switch:disable",
    },
)
def sagas() -> None:
    """Look at sagas, settle what waits for a person, and stop what is under way."""
