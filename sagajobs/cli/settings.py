"""`settings`: what can be set, and how it is set."""

from __future__ import annotations

import click

from sagajobs.cli.output import json_option, print_json, print_table
from sagajobs.runtime.settings import Settings


@click.command()
@json_option
def settings(*, as_json: bool) -> None:
    """List every setting with its value, where that comes from, and its meaning; secrets are not shown."""
    rows = Settings.load().describe()
    if as_json:
        print_json([row._asdict() for row in rows])
    else:
        print_table(("setting", "value", "from", "meaning"), [tuple(row) for row in rows])
