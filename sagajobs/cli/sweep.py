"""`sweep`: a sweep now, without beat."""

from __future__ import annotations

import click

from sagajobs.cli.application import engine, load_kinds, ready_database, settings
from sagajobs.cli.groups import one_line
from sagajobs.cli.help import examples
from sagajobs.cli.output import json_option, print_json, print_table
from sagajobs.desk.wording import span
from sagajobs.runtime.reachability import check_reachable
from sagajobs.saga.sweeps import Noted, Sweep, run
from sagajobs.saga.sweeps.standard import RECOVER


@click.command(epilog=examples("sagajobs sweep", "sagajobs sweep review reconcile", "sagajobs sweep --all --json"))
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Run every sweep there is.")
@json_option
def sweep(*, names: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Run sweeps once, as beat has them run all the time; with no NAME, the recovery of sagas that stand still.

    Each may run beside beat and other sweeps. Names: recover, review, purge, totals, events, invariants,
    reconcile.
    """
    chosen = _chosen(names, every=every)
    ready_database()
    load_kinds()  # a saga of a kind that is not known is handed to a person
    if any(one.publishes for one in chosen):
        # A hint without a broker would be counted and lost, with a line in the log only.
        check_reachable(settings(), "broker")
    noted, broken = _run(chosen)
    if as_json:
        print_json({one.name: {"found": it.found, "seconds": it.seconds} for one, it in noted})
    elif noted:
        print_table(
            ("sweep", "found", "took"),
            [(one.name, f"{one.what}: {it.found}", span(it.seconds)) for one, it in noted],
        )
    if broken:
        raise click.ClickException("; ".join(f"{', '.join(names)} broke off: {why}" for why, names in broken.items()))


def _run(chosen: list[Sweep]) -> tuple[list[tuple[Sweep, Noted]], dict[str, list[str]]]:
    """Run them, and return what each came to, and which of them broke off by what: the others have their turn."""
    noted: list[tuple[Sweep, Noted]] = []
    broken: dict[str, list[str]] = {}
    for one in chosen:
        try:
            noted.append((one, run(engine(), one)))
        except Exception as error:
            line = one_line(error)
            if line is None:
                raise
            broken.setdefault(line, []).append(one.name)
    return noted, broken


def _chosen(names: tuple[str, ...], *, every: bool) -> list[Sweep]:
    known = engine().sweeps
    if every and names:
        raise click.UsageError("give names or --all, not both")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.UsageError(f"there is no sweep {unknown[0]!r}: choose from {', '.join(known)}")
    if every:
        return list(known.values())
    return [known[name] for name in dict.fromkeys(names or (RECOVER,))]
