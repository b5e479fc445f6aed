"""`db`: the schema of the database."""

from __future__ import annotations

import click

from sagajobs import migrations
from sagajobs.cli.application import reachable_database
from sagajobs.cli.help import examples
from sagajobs.cli.output import json_option, print_json


@click.group()
def db() -> None:
    """Bring the database's tables up to date."""


@db.command("upgrade", epilog=examples("sagajobs db upgrade"))
@json_option
def upgrade_command(*, as_json: bool) -> None:
    """Create the tables, or bring them up to this version.

    Two upgrades at once wait for each other, and one that fails leaves everything as it was.
    """
    database = reachable_database()
    before = migrations.current(database.engine)
    after = migrations.upgrade(database.engine)
    if as_json:
        print_json({"before": before, "revision": after})
    else:
        click.echo(f"already up to date: {after}" if before == after else f"upgraded to {after}")


@db.command("current", epilog=examples("sagajobs db current"))
@json_option
def current_command(*, as_json: bool) -> None:
    """Say which revision the database is at, and which one this version wants."""
    revision = migrations.current(reachable_database().engine)
    if as_json:
        print_json({"revision": revision, "wanted": migrations.head()})
    elif revision == migrations.head():
        click.echo(f"{revision} (up to date)")
    else:
        click.echo(f"{revision or 'no tables'} (this version wants {migrations.head()}; run: sagajobs db upgrade)")
