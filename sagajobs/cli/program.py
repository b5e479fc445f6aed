"""`main`: the program `sagajobs`."""

from __future__ import annotations

import click

from sagajobs.cli.groups import LazyGroup
from sagajobs.cli.sagas import OF_SAGAS, OF_THE_WHOLE


@click.group(
    cls=LazyGroup,
    commands_at={
        "sagas": "sagajobs.cli.sagas:sagas",
        **OF_THE_WHOLE,
        "completion": "sagajobs.cli.completion:completion",
    },
    also_at=OF_SAGAS,
    epilog="The commands of `sagas` may be typed without that word: `sagajobs show ID` is `sagajobs sagas show ID`.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="sagajobs")
def main() -> None:
    """Sagas on Celery that keep a PostgreSQL database and Cal.com in step.

    Everything is set by environment variables (`sagajobs settings` lists them). With no URL set, private servers
    below SAGAJOBS_HOME are started as they are needed and stopped when nobody uses them any more.

    `sagajobs demo` shows what it is for, `sagajobs up` runs it.
    """
