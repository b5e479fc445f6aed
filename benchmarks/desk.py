"""What the pages of the Sagas tab and a scrape cost: the desk's answers, with a million sagas that are over.

    python -m benchmarks.desk [--finished N] [--due N]

It fills a database of its own, as `benchmarks.sweeps` does. Each page is made five times, as Flower makes it, its
template apart; the slowest counts, as somebody waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
from sqlalchemy import text

from benchmarks._database import own_database
from benchmarks.sweeps import fill_and_settle
from sagajobs.booking import AppointmentCreationSaga
from sagajobs.cli.output import print_table
from sagajobs.desk import metrics
from sagajobs.flower import looking
from sagajobs.saga import Database, Engine
from sagajobs.saga.sweeps import engine_sweeps
from sagajobs.saga.totals import READ_AT_ONCE, add_up
from tests.support.plans import DUE, FINISHED

TIMES = 5

STEPS = "(ARRAY['create_customer', 'create_appointment', 'book_calcom', 'assign_staff'])[s + 1]"


AUDIT = """
    INSERT INTO audit_log (actor, action, entity, entity_id, saga_id, detail)
    SELECT 'bench', 'appointment_created', 'appointment', n, id, '{}' FROM filled
"""


def _real(statements: tuple[str, ...]) -> tuple[str, ...]:
    """Give what is filled in what searches and customers' words are read from: names, results, numbers, an audit trail.

    The steps get the names and results of real ones, every third saga has an appointment's number in its input.
    """
    output = """'{"appointment_id": 1"""
    return tuple(
        statement.replace("'step_' || s", STEPS)
        .replace(output, f'{output}, "status": "accepted"')
        .replace("'event_type_id', n % 5", "'event_type_id', n % 5, 'appointment_id', CASE n % 3 WHEN 0 THEN n END")
        .replace("DROP TABLE filled", f"{AUDIT}; DROP TABLE filled")
        for statement in statements
    )


@click.command()
@click.option(
    "--finished", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Sagas that are over."
)
@click.option("--due", type=click.IntRange(min=1), default=1_000, show_default=True, help="Of each that is due.")
def main(*, finished: int, due: int) -> None:
    """Measure and print a table."""
    with own_database(idle_in_transaction=3600) as database:
        fill_and_settle(database, _real(DUE), due)
        fill_and_settle(database, _real(FINISHED), finished)
        rows = [(name, *_measure(page)) for name, page in _pages(database).items()]
        rows += _scrapes(database)
    click.echo(f"{finished} finished sagas, {due} of each due; milliseconds of {TIMES} times\n")
    print_table(("page", "fastest", "slowest"), rows)


def _pages(database: Database) -> dict[str, Callable[[], object]]:
    engine = Engine(database)
    engine.register(AppointmentCreationSaga)
    engine.schedule(*engine_sweeps(interval=1, retention_days=90))
    with database.reading() as connection:
        appointment, uid, saga_id = connection.execute(
            text("SELECT id, calcom_v2_booking_id, saga_id FROM appointments WHERE saga_id IS NOT NULL LIMIT 1")
        ).one()
        middle = connection.execute(text("SELECT id FROM sagas ORDER BY created_at OFFSET 500000 LIMIT 1")).scalar()
        (case,) = connection.execute(text("SELECT saga_id FROM review_cases WHERE closed_at IS NULL LIMIT 1")).one()

    def listed(**arguments: str) -> Callable[[], object]:
        return lambda: looking.saga_list(engine, arguments)

    return {
        "list": listed(),
        "list, from the middle on": listed(before=str(middle or saga_id)),
        "list, older than a week": listed(older="604800"),
        "list, completed": listed(state="completed"),
        "list, compensated": listed(state="compensated"),
        "list, in review": listed(state="manual_review_required"),
        "list, none in this state": listed(state="paused"),
        "list, one kind": listed(name="appointment_creation"),
        "list, no such kind": listed(name="none"),
        "list, kind and state": listed(name="appointment_creation", state="compensated"),
        "customer sees confirmed": listed(told="confirmed"),
        "customer sees needs us": listed(told="needs us"),
        "customer sees held: all looks": listed(told="held"),
        "customer sees being cancelled": listed(told="being cancelled"),
        "search, id": listed(q=str(saga_id)),
        "search, beginning of an id": listed(q=str(saga_id)[:8]),
        "search, appointment": listed(q=str(appointment)),
        "search, booking uid": listed(q=str(uid)),
        "search, in vain": listed(q="no such uid"),
        "one saga": lambda: looking.one_saga(engine, str(saga_id)),
        "one saga in review": lambda: looking.one_saga(engine, str(case)),
        "review queue": lambda: looking.queue(engine),
        "health": lambda: looking.how_all_stands(engine, circuit=None, quota=None, workers=1),
    }


def _scrapes(database: Database) -> list[tuple[str, str, str]]:
    """Measure /metrics: with none to be added up anew, with the most that a scrape adds up, and the sweep itself."""
    engine = Engine(database)
    engine.register(AppointmentCreationSaga)
    engine.schedule(*engine_sweeps(interval=1, retention_days=90))
    ended = "SELECT id FROM sagas WHERE ended_at IS NOT NULL ORDER BY ended_at LIMIT :n"
    fill = text(f"INSERT INTO saga_uncounted (saga_id) {ended}")

    def scrape() -> object:
        return metrics.exposition(metrics.read(engine, circuit=None, quota=None))

    rows = [("/metrics", *_measure(scrape))]
    with database.transaction() as connection:
        connection.execute(fill, {"n": 2 * READ_AT_ONCE})
        connection.execute(text("ANALYZE saga_uncounted"))
    rows.append((f"/metrics, {READ_AT_ONCE} to be added up", *_measure(scrape)))
    began = time.monotonic()
    added = add_up(database)
    took = f"{(time.monotonic() - began) * 1000:.1f}"
    return [*rows, (f"{added} added up", took, took)]


def _measure(page: Callable[[], object]) -> tuple[str, str]:
    took = []
    for _ in range(TIMES):
        began = time.monotonic()
        page()
        took.append((time.monotonic() - began) * 1000)
    return f"{min(took):.1f}", f"{max(took):.1f}"


if __name__ == "__main__":
    main()
