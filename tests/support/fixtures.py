"""Fixtures for tests that use the application: a clean slate, the simulator, workers in their own processes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis
from sqlalchemy import Connection, text

from sagajobs.saga.presence import LOCK_CLASS
from sagajobs.testing.simulator import Simulator
from sagajobs.testing.worker import Worker
from tests.support import chromium

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # a machine that stands still makes no example wrong

TABLES = (
    "sagas, saga_steps, saga_events, saga_locks, review_cases, saga_totals, saga_uncounted, sweeps, switches, outbox, "
    "appointments, composite_bookings, customers, staff, audit_log"
)
EMPTY = "; ".join(f"DELETE FROM {table}" for table in TABLES.split(", "))
"""Sixty times as fast as TRUNCATE, which makes a new file for each table and index."""
FROM_ONE = f"""
    SELECT setval(pg_get_serial_sequence(a.attrelid::regclass::text, a.attname), 1, false) FROM pg_attribute a
    WHERE a.attidentity <> '' AND a.attrelid = ANY ('{{{TABLES}}}'::regclass[])
"""
DEAD = text("""
    DELETE FROM saga_owners o WHERE NOT EXISTS (
        SELECT FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.classid = :lock_class AND CAST(l.objid AS bigint) = o.id
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
""")
"""Workers of earlier tests: that they are gone is no business of this one's sweeps."""

NOTICED = 60_000
"""Milliseconds within which a page shows what is awaited of it. A page asks again every five seconds, and then tells of
a worker that was killed only if Flower has missed two of its heartbeats by then."""


@pytest.fixture(scope="session")
def app_engine():
    """The application's saga engine on this run's database, migrated."""
    from sagajobs import migrations
    from sagajobs.root import engine
    from sagajobs.saga import database

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "CONNECT_WITHIN", 60)  # many are made at once here, on a machine that may stand still
        migrations.upgrade(engine.database.engine)
    return engine


@pytest.fixture
def simulator(calcom_simulator: Simulator) -> Simulator:
    """Cal.com's simulator; see the testing kit's."""
    return calcom_simulator


def forget_appointments() -> None:
    """Empty the cache of appointments."""
    from sagajobs.root import servers

    with Redis.from_url(servers().redis, socket_timeout=60) as redis:
        if keys := redis.keys("*sagajobs:appointment:*"):
            redis.delete(*keys)


@pytest.fixture
def clean(app_engine) -> Iterator[None]:
    """An empty database before the test; afterwards the invariants, and no saga in flight (SPEC 4)."""
    from sagajobs.booking import invariants

    with app_engine.database.transaction() as connection:
        connection.exec_driver_sql(f"{EMPTY}; {FROM_ONE}")
        connection.execute(DEAD, {"lock_class": LOCK_CLASS})
    forget_appointments()  # the next ones have the same ids
    yield
    with app_engine.database.reading() as connection:
        assert [violation.rows for violation in invariants.check(connection)] == [0, 0, 0]
        in_flight = connection.execute(
            text("SELECT id, name, state FROM sagas WHERE next_at IS NOT NULL AND kind = 'declared'")
        ).all()
        assert in_flight == [], "a test left sagas in flight"


@pytest.fixture
def db(app_engine, clean) -> Iterator[Connection]:
    """A connection for looking."""
    with app_engine.database.reading() as connection:
        yield connection


@pytest.fixture
def booking(clean, simulator) -> Callable[..., dict]:
    """Make booking requests, each for a slot of its own unless told otherwise."""
    number = itertools.count()
    first = (datetime.now(UTC) + timedelta(days=2)).replace(hour=8, minute=0, second=0, microsecond=0)

    def make(**changes) -> dict:
        n = next(number)
        customer = {"name": f"Private Person{n}", "email": f"private.person{n}@secret.example", "time_zone": "UTC"}
        request = {
            "customer": customer | changes.pop("customer", {}),
            "event_type_id": n % 5 + 1,
            "start": first + timedelta(minutes=30 * (n // 5)),
            "duration_minutes": 30,
        }
        return request | changes

    return make


class Order(NamedTuple):
    """What a composite booking is asked for with."""

    customer: dict
    segments: list[dict]

    def changed(self, number: int, **changes) -> Order:
        segments = [dict(segment) for segment in self.segments]
        segments[number] |= changes
        return Order(self.customer, segments)


@pytest.fixture
def order(booking) -> Callable[..., Order]:
    """Make orders, each of so many segments, at different hosts and times."""

    def make(segments: int = 3) -> Order:
        requests = [booking() for _ in range(segments)]
        slots = [{key: one[key] for key in ("event_type_id", "start", "duration_minutes")} for one in requests]
        return Order(requests[0]["customer"], slots)

    return make


@pytest.fixture
def staff(app_engine, clean) -> list[int]:
    """One staff member for each host of the simulator; returns their ids."""
    with app_engine.database.transaction() as connection:
        return [
            connection.execute(
                text("INSERT INTO staff (name, email, calcom_user_id) VALUES (:n, :e, :u) RETURNING id"),
                {"n": f"Staff {n}", "e": f"host{n}@example.com", "u": n},
            ).scalar_one()
            for n in range(1, 6)
        ]


@pytest.fixture(scope="session")
def saga_stack(app_engine):
    """The testing kit's, on the servers that conftest.py has named."""
    from sagajobs.testing import stack

    return stack.running()


APP = "tests.support.workerapp"


@pytest.fixture
def workers(saga_worker) -> Callable[..., Worker]:
    """Start workers that know the tests' own sagas; all are stopped after the test."""
    return functools.partial(saga_worker, app=APP)


@pytest.fixture
def _clean_broker(saga_stack) -> None:
    """No message of an earlier test in the queues."""
    saga_stack.purge()


@pytest.fixture(scope="module")
def worker_environment() -> dict[str, str]:
    """The variables of a module's worker, beside those of this process."""
    return {}


@pytest.fixture(scope="module")
def _shared_worker(tmp_path_factory, app_engine, worker_environment) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("worker"), app=APP, beat=True, **worker_environment)
    yield worker
    worker.stop()


@pytest.fixture
def worker(_shared_worker: Worker) -> Worker:
    """One worker with beat, kept for all tests of a module."""
    assert _shared_worker.alive
    return _shared_worker


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A Chromium without a window, kept for all tests of a module."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=NOTICED)
    path = chromium.find()
    if path is None:
        pytest.fail(chromium.MISSING)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=chromium.options())
        yield started
        started.close()


@pytest.fixture
def count(db) -> Callable[[str], int]:
    """Count the rows of a table."""
    return lambda table: db.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
