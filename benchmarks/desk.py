"""What the pages of the Sagas tab and a scrape cost whoever asks a real Flower for them, beside a million ended sagas.

    python -m benchmarks.desk [--finished N] [--due N]

It fills a database of its own, as `benchmarks.sweeps` does, and starts a Flower, in a process of its own and with a
login. Each page is asked for by HTTP, seven times one after the other, as a browser does that keeps its connection; the
first time counts with the others.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import click
import requests
from sqlalchemy import text

from benchmarks._database import own_database
from benchmarks._home import own_home
from benchmarks.sweeps import fill_and_settle
from sagajobs.cli.output import print_table
from sagajobs.desk.searching import STATES_OF
from sagajobs.flower.looking import AGES
from sagajobs.saga import Database, SagaState
from sagajobs.saga.totals import READ_AT_ONCE, add_up
from sagajobs.testing.waiting import wait_for
from tests.support import flowers
from tests.support.plans import DUE, FINISHED

TIMES = 7

STEPS = "(ARRAY['create_customer', 'create_appointment', 'book_calcom', 'assign_staff'])[s + 1]"

PLACE = "SELECT id FROM sagas ORDER BY created_at DESC, id DESC OFFSET :offset LIMIT 1"

Row = tuple[str, str, str]


def _real(statements: tuple[str, ...]) -> tuple[str, ...]:
    """Give what is filled in what searches and customers' words are read from: names, results, numbers.

    The steps get the names and results of real ones, every third saga has an appointment's number in its input.
    """
    output = """'{"appointment_id": 1"""
    return tuple(
        statement.replace("'step_' || s", STEPS)
        .replace("'step_0'", "'create_customer'")
        .replace(output, f'{output}, "status": "accepted"')
        .replace("'event_type_id', n % 5", "'event_type_id', n % 5, 'appointment_id', CASE n % 3 WHEN 0 THEN n END")
        for statement in statements
    )


@click.command()
@click.option(
    "--finished", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Sagas that are over."
)
@click.option("--due", type=click.IntRange(min=1), default=1_000, show_default=True, help="Of each that is due.")
def main(*, finished: int, due: int) -> None:
    """Measure and print a table."""
    with own_home(), own_database(idle_in_transaction=3600) as database:
        fill_and_settle(database, _real(DUE), due)
        fill_and_settle(database, _real(FINISHED), finished)
        with _visitor(database) as visit:
            rows = [(name, *_measure(partial(visit, path))) for name, path in _pages(database, finished)]
            rows += _scrapes(database, partial(visit, "/metrics"))
    click.echo(f"{finished} finished sagas, {due} of each due; milliseconds of {TIMES} times\n")
    print_table(("page", "median", "worst"), rows)


@contextmanager
def _visitor(database: Database) -> Iterator[Callable[[str], requests.Response]]:
    """Start a Flower that hears a worker, and give what asks it for a page; any other answer than 200 is an error."""
    from sagajobs.root import app  # noqa: PLC0415 - it reads the environment, which is ours by now

    url = database.engine.url.render_as_string(hide_password=False)
    environment: dict[str, Any] = {"SAGAJOBS_DATABASE_URL": url, **flowers.known_servers()}
    with ExitStack() as stack:
        flower = stack.enter_context(flowers.running(**environment))
        session = stack.enter_context(requests.Session())
        session.auth = flower.auth

        def visit(path: str) -> requests.Response:
            answer = session.get(flower.url + path, timeout=60)
            if answer.status_code != HTTPStatus.OK:
                raise click.ClickException(f"{path}: {answer.status_code}")
            return answer

        def heard() -> bool:
            with app.events.default_dispatcher() as tell:
                tell.send("worker-heartbeat", freq=3600)
            return "saga_workers 1.0" in visit("/metrics").text.splitlines()

        wait_for(heard)
        yield visit


def _pages(database: Database, finished: int) -> Iterator[tuple[str, str]]:
    """Yield the pages, each with its address, as they are called in the table."""
    with database.reading() as connection:
        appointment, uid, saga_id = connection.execute(
            text("SELECT id, calcom_v2_booking_id, saga_id FROM appointments WHERE saga_id IS NOT NULL LIMIT 1")
        ).one()
        middle, last = (
            connection.execute(text(PLACE), {"offset": offset}).scalar_one()
            for offset in (finished // 2, finished - 100)
        )
        case = connection.execute(text("SELECT id FROM review_cases WHERE closed_at IS NULL LIMIT 1")).scalar_one()
        asked = connection.execute(text("SELECT saga_id FROM review_cases WHERE id = :id"), {"id": case}).scalar_one()
    yield "list", "/sagas"
    yield "list, from the middle on", f"/sagas?before={middle}"
    yield "list, its end", f"/sagas?before={last}"
    for seconds, age in AGES.items():
        yield f"list, older than {age}", f"/sagas?older={seconds}"
    for state in SagaState:
        yield f"list, {state}", f"/sagas?state={state}"
    yield "list, completed, from the middle on", f"/sagas?state=completed&before={middle}"
    yield "list, one kind", "/sagas?name=appointment_creation"
    yield "list, no such kind", "/sagas?name=none"
    yield "list, one kind, compensated", "/sagas?name=appointment_creation&state=compensated"
    yield "list, one kind, completed, older", "/sagas?name=appointment_creation&state=completed&older=604800"
    for word in STATES_OF:
        yield f"list, customer sees {word}", f"/sagas?told={word.replace(' ', '+')}"
    yield "list, customer sees held, from the middle on", f"/sagas?told=held&before={middle}"
    for what, sought in (
        ("an id", saga_id),
        ("beginning of an id", str(saga_id)[:8]),
        ("an appointment", appointment),
        ("a booking uid", uid),
        ("in vain", "no+such+uid"),
        ("a number in vain", 2_000_000_000),
    ):
        yield f"search, {what}", f"/sagas?q={sought}"
    yield "one saga", f"/sagas/{saga_id}"
    yield "one saga in review", f"/sagas/{asked}"
    yield "review queue", "/sagas/review"
    yield "review queue, further on", f"/sagas/review?after={case}"
    yield "health", "/sagas/health"


def _scrapes(database: Database, scrape: Callable[[], object]) -> Iterator[Row]:
    """Measure /metrics with none to be added up, and with as many as no sweep has come for; and the sweep itself."""
    yield "/metrics", *_measure(scrape)
    for many in (READ_AT_ONCE, 2 * READ_AT_ONCE, 20 * READ_AT_ONCE):
        wait = f"/metrics, no sweep for {many} ended sagas"
        yield wait, *_measure(scrape, before=partial(_leave, database, many))
    many = 2 * READ_AT_ONCE
    sweep = f"the sweep: {many} ended sagas added up"
    yield sweep, *_measure(partial(add_up, database), before=partial(_leave, database, many))


def _leave(database: Database, count: int) -> None:
    """Have so many ended sagas wait to be added up, those written last (once more, which no figure here minds)."""
    ended = "SELECT id FROM sagas WHERE ended_at IS NOT NULL ORDER BY ctid DESC LIMIT :n"
    with database.transaction() as connection:
        connection.execute(text("TRUNCATE saga_uncounted"))
        connection.execute(text(f"INSERT INTO saga_uncounted (saga_id) {ended}"), {"n": count})
        connection.execute(text("ANALYZE saga_uncounted"))


def _measure(page: Callable[[], object], *, before: Callable[[], None] = lambda: None) -> tuple[str, str]:
    took = []
    for _ in range(TIMES):
        before()
        began = time.monotonic()
        page()
        took.append((time.monotonic() - began) * 1000)
    return f"{statistics.median(took):.0f}", f"{max(took):.0f}"


if __name__ == "__main__":
    main()
