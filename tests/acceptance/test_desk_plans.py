"""What a page of sagas costs follows what it shows, and not the table (SPEC 6): each query, where most is over.

`make bench` measures it at a million.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from sagajobs.cli import completing
from sagajobs.desk import metrics, queries
from sagajobs.desk.statistics import statistics
from sagajobs.desk.watching import AllEvents, EventsOfOne
from sagajobs.flower import looking
from sagajobs.saga.cases import Sieve
from sagajobs.saga.totals import add_up
from tests.support.fixtures import TABLES
from tests.support.plans import DUE, FINISHED, GROWING, fill, plan_of

DUE_NOW = 20

LOOKED_AT = 1_500
"""Pages of 8 KiB, in memory or not, that one query may look at: some for each row shown. Of 20,000 rows, one each."""


@pytest.fixture(scope="module")
def filled(app_engine):
    """Twenty thousand sagas that are over, and twenty of everything that is due."""
    with app_engine.database.transaction() as connection:
        connection.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE"))
        fill(connection, *DUE, n=DUE_NOW)
        fill(connection, *FINISHED, n=20_000)
    yield app_engine
    with app_engine.database.transaction() as connection:
        connection.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE"))


@contextmanager
def asked(engine):
    """Collect what the database is asked within the block."""
    statements = []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"older": "604800"},
        *({"state": state} for state in ("completed", "compensated", "manual_review_required", "paused")),
        {"name": "appointment_creation"},
        {"name": "none"},
        {"name": "appointment_creation", "state": "compensated"},
        {"q": "00000000-0000-4000-8000-000000000001"},
        {"q": "00000000"},
        {"q": "17"},
        {"q": "uid17"},
        {"q": "none"},
    ],
    ids=str,
)
def test_a_list_reads_what_it_shows(filled, arguments):
    with asked(filled.database.engine) as statements:
        looking.saga_list(filled, arguments)
    assert_frugal(filled, statements)


def test_so_do_one_saga_the_queue_and_health(filled):
    with asked(filled.database.engine) as statements:
        looking.one_saga(filled, "00000000")
        first = looking.queue(filled, {})["rows"][0]
        looking.queue(filled, {"after": str(first["case"])})
        looking.how_all_stands(filled, circuit=None, quota=None, workers=1)
    assert len(statements) > 10
    assert_frugal(filled, statements)


def test_so_does_a_scrape(filled):
    """What is unfinished, and what has ended since the last addition: twenty of each."""
    due = "SELECT id FROM sagas WHERE ended_at IS NOT NULL ORDER BY id LIMIT 20"
    with filled.database.transaction() as connection:
        connection.execute(text(f"INSERT INTO saga_uncounted (saga_id) {due}"))
    with asked(filled.database.engine) as statements:
        metrics.read(filled, circuit=None, quota=None)
    assert len(statements) > 8
    assert_frugal(filled, statements)
    with asked(filled.database.engine) as statements:
        assert add_up(filled.database) == DUE_NOW
    with filled.database.transaction() as connection:
        connection.execute(text(f"INSERT INTO saga_uncounted (saga_id) {due}"))
    assert_frugal(filled, [one for one in statements if "saga_uncounted" in one[0]])


def test_so_do_what_is_counted_watched_chosen_and_completed(filled):
    """A day's ends are among what is shown: of 20,000 over 80 days, 250."""
    with filled.database.reading() as connection:
        one = connection.execute(text("SELECT saga_id FROM saga_events LIMIT 1")).scalar_one()
    with asked(filled.database.engine) as statements, filled.database.reading() as connection:
        statistics(connection)
        queries.at_work(connection, limit=50)
        events = AllEvents(connection)
        events._last -= 20  # what has happened since the last look, and what was passed over
        events._missing = dict.fromkeys(range(1, 10), 0.0)
        events.look(connection)
        EventsOfOne(one).look(connection)
        filled.review.cases(50, Sieve(name="appointment_creation", step="step_0", cause="X", older_than=60.0))
        for statement in (completing._NEWEST, completing._OPEN, completing._KINDS, completing._CAUSES):
            connection.execute(text(statement), {"most": 30})
        prefix = {"first": "00000000-0000-0000-0000-000000000000", "last": "00ffffff-ffff-ffff-ffff-ffffffffffff"}
        connection.execute(text(completing._FROM), {"most": 30, **prefix})
    assert len(statements) > 12
    assert_frugal(filled, statements)


def assert_frugal(engine, statements) -> None:
    assert statements
    with engine.database.reading() as connection:
        for statement, parameters in statements:
            plan = plan_of(connection, statement, parameters)
            assert plan.sequential() & GROWING == set(), statement
            assert plan.buffers <= LOOKED_AT, (plan.buffers, statement)
