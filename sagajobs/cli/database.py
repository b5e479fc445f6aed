"""`db`: the schema of the database."""

from __future__ import annotations

import click

from sagajobs import migrations
from sagajobs.cli.application import reachable_database


@click.group()
def db() -> None:
    """Bring the database's tables up to date."""


@db.command("upgrade")
def upgrade_command() -> None:
    """Create the tables, or bring them up to this version.

    Two upgrades at once wait for each other, and one that fails leaves everything as it was.
    """
    database = reachable_database()
    before = migrations.current(database.engine)
    after = migrations.upgrade(database.engine)
    click.echo(f"already up to date: {after}" if before == after else f"upgraded to {after}")


@db.command("current")
def current_command() -> None:
    """Say which revision the database is at, and which one this version wants."""
    revision = migrations.current(reachable_database().engine)
    if revision == migrations.head():
        click.echo(f"{revision} (up to date)")
    else:
        click.echo(f"{revision or 'no tables'} (this version wants {migrations.head()}; run: sagajobs db upgrade)")
