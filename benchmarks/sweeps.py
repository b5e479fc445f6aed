"""What the sweeps cost: with nothing but what is due in the tables, and with a million sagas beside it that are over.

    python -m benchmarks.sweeps [--finished N] [--due N]

It fills a database of its own, on an embedded server that ends with it. Each query is carried out five times, with
EXPLAIN (ANALYZE, BUFFERS), and taken back; the fastest counts, for what else the machine does only adds to it. How many
pages it read does not depend on that. Commits do not wait for the disk here: it is not the disk that is measured.
"""

from __future__ import annotations

import time
from typing import Any

import click
from sqlalchemy import text

from benchmarks._database import own_database
from sagajobs.booking import AppointmentCreationSaga
from sagajobs.cli.output import print_table
from sagajobs.saga import Database, Engine
from sagajobs.saga.sweep import recover
from tests.support.plans import DUE, FINISHED, Plan, explain, fill, queries

TIMES = 5


class NoBroker:
    """A publisher whose hints go nowhere: the database is what is measured."""

    def add(self, kind: Any) -> None:
        """Do nothing."""

    def steps(self, kind: Any, saga_id: str, names: Any) -> None:
        """Do nothing."""

    def wake(self, kind: Any, saga_id: str, name: str) -> None:
        """Do nothing."""

    def compensation(self, kind: Any, saga_id: str) -> None:
        """Do nothing."""


@click.command()
@click.option(
    "--finished", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Sagas that are over."
)
@click.option("--due", type=click.IntRange(min=1), default=1_000, show_default=True, help="Of each that is due.")
def main(*, finished: int, due: int) -> None:
    """Measure and print a table, then the scans of each plan."""
    with own_database(idle_in_transaction=3600) as database:
        fill_and_settle(database, DUE, due)
        alone = _measure(database, due)
        began = time.monotonic()
        fill_and_settle(database, FINISHED, finished)
        click.echo(f"{finished} finished sagas filled in within {time.monotonic() - began:.0f} s", err=True)
        beside = _measure(database, due)
    _show(alone, beside, finished=finished, due=due)


def fill_and_settle(database: Database, statements: tuple[str, ...], n: int) -> None:
    """Fill the tables by statements that make `n` of something, and have the database come to rest."""
    with database.transaction() as connection:
        fill(connection, *statements, n=n)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _measure(database: Database, due: int) -> dict[str, tuple[float, Plan | None]]:
    measured: dict[str, tuple[float, Plan | None]] = {}
    with database.engine.connect() as connection:
        for query in queries(due):
            plans = [explain(connection, query, analyze=True) for _ in range(TIMES)]
            measured[query.name] = (min(plan.milliseconds for plan in plans), plans[-1])
    measured[f"recover: {due} sagas taken up"] = (_recover(database, due), None)
    return measured


def _recover(database: Database, due: int) -> float:
    engine = Engine(database)
    engine.register(AppointmentCreationSaga)
    engine.publisher = NoBroker()
    # The steps of these sagas are no real ones: what is to be hinted at is not looked up by its name.
    took = []
    for _ in range(TIMES):
        _make_due(database)
        began = time.monotonic()
        taken = recover(engine, batch=due)
        took.append((time.monotonic() - began) * 1000)
        if taken != due:
            raise click.ClickException(f"{taken} of {due} sagas were taken up")
    _make_due(database)
    return min(took)


def _make_due(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE sagas SET next_at = saga_now() - interval '1 s', hints = 0 WHERE next_at IS NOT NULL")
        )


def _show(
    alone: dict[str, tuple[float, Plan | None]],
    beside: dict[str, tuple[float, Plan | None]],
    *,
    finished: int,
    due: int,
) -> None:
    click.echo(f"{due} of each due; milliseconds, the fastest of {TIMES}\n")
    rows = []
    for name, (before, first) in alone.items():
        after, then = beside[name]
        pages = ["-" if plan is None else str(plan.buffers) for plan in (first, then)]
        rows.append((name, f"{before:.2f}", f"{after:.2f}", f"{after / before:.1f}", *pages))
    print_table(("query", "0 finished", f"{finished} finished", "ratio", "pages", f"pages, {finished}"), rows)
    click.echo("")
    for name, (_, plan) in beside.items():
        if plan is not None:
            scans = sorted(f"{kind} {index or table}" for kind, table, index in plan.scans if index or table)
            click.echo(f"{name}: {', '.join(scans)}")


if __name__ == "__main__":
    main()
