"""`main`: the program `sagajobs`."""

from __future__ import annotations

import click

from sagajobs.cli.groups import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_at={
        "demo": "sagajobs.cli.demo.command:demo",
        "up": "sagajobs.cli.up:up",
        "sagas": "sagajobs.cli.sagas:sagas",
        "invariants": "sagajobs.cli.invariants:invariants",
        "check": "sagajobs.cli.check:check",
        "ready": "sagajobs.cli.ready:ready",
        "sweep": "sagajobs.cli.sweep:sweep",
        "webhooks": "sagajobs.cli.webhooks:webhooks",
        "purge": "sagajobs.cli.purge:purge",
        "settings": "sagajobs.cli.settings:settings",
        "db": "sagajobs.cli.database:db",
        "simulator": "sagajobs.cli.simulator:simulator",
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="sagajobs")
def main() -> None:
    """Sagas on Celery that keep a PostgreSQL database and Cal.com in step.

    Everything is set by environment variables (`sagajobs settings` lists them). With no URL set, private servers
    below SAGAJOBS_HOME are started as they are needed and stopped when nobody uses them any more.

    `sagajobs demo` shows what it is for, `sagajobs up` runs it.
    """
