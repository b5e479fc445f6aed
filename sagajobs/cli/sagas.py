"""`sagas`: the commands on sagas, for `sagajobs sagas …` and, as a plug-in, for `celery -A … sagas …`."""

from __future__ import annotations

import click

from sagajobs.cli.groups import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_at={
        "list": "sagajobs.cli.listing:list_sagas",
        "show": "sagajobs.cli.timeline:show",
        "enable": "sagajobs.cli.switch:enable",
        "disable": "sagajobs.cli.switch:disable",
    },
)
def sagas() -> None:
    """Look at sagas: which there are, and what happened to one; book with them, or without."""
