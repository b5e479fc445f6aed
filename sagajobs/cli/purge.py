"""`purge`: ended sagas deleted now, without beat."""

from __future__ import annotations

import click

from sagajobs.cli.application import engine, ready_database, settings
from sagajobs.cli.help import examples
from sagajobs.cli.operator import signature, who_option, why_unless_dry_run_option
from sagajobs.cli.options import Number
from sagajobs.cli.output import json_option, print_json, print_table
from sagajobs.cli.progress import bar
from sagajobs.saga.sweeps.purge import purge_by_hand, purgeable


@click.command(epilog=examples("sagajobs purge --dry-run", 'sagajobs purge --older-than 180 --why "the disk is full"'))
@click.option(
    "--older-than",
    "days",
    metavar="DAYS",
    type=Number("days", 0, 36500),
    help="Days since the saga ended; SAGAJOBS_RETENTION_DAYS if not given.",
)
@click.option("--dry-run", is_flag=True, help="Only count what would be deleted.")
@who_option
@why_unless_dry_run_option
@json_option
def purge(*, days: int | None, dry_run: bool, who: str | None, why: str | None, as_json: bool) -> None:
    """Delete sagas that ended long ago, with their steps and their history.

    Appointments and the audit log stay, and so does every saga with an open review case. What beat's purge has left is
    deleted, in this process.
    """
    if days is None:
        days = settings().retention_days
        if days == 0:
            raise click.UsageError(
                "SAGAJOBS_RETENTION_DAYS is 0, keep all: say --older-than DAYS to purge all the same"
            )
    signed = None if dry_run else signature(who, why)
    ready_database()
    found = purgeable(engine(), older_than_days=days)
    if signed is not None:
        with bar(sum(found.values()), "purge") as shown:
            found = purge_by_hand(engine(), older_than_days=days, **signed, told=shown.done)
    rows = [(name, state, sagas) for (name, state), sagas in sorted(found.items())]
    if as_json:
        purged = [{"name": name, "state": state, "sagas": sagas} for name, state, sagas in rows]
        print_json({"older_than_days": days, "dry_run": dry_run, "purged": purged})
        return
    if rows:
        print_table(("saga", "state", "sagas"), [(name, state, str(sagas)) for name, state, sagas in rows])
    sagas = sum(found.values())
    what = "would be deleted" if dry_run else "deleted"
    click.echo(f"{sagas} saga{'' if sagas == 1 else 's'} that ended more than {days} days ago {what}")
