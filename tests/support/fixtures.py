"""Fixtures for tests that use the application: a clean slate, the simulator, workers in their own processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Connection, text

from tests.support import nursery
from tests.support.simulator import Simulator

TABLES = (
    "sagas, saga_steps, saga_events, saga_locks, review_cases, sweeps, switches, "
    "appointments, composite_bookings, customers, staff, audit_log"
)
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def app_engine():
    """The application's saga engine on this run's database, migrated."""
    from sagajobs import migrations
    from sagajobs.root import engine

    migrations.upgrade(engine.database.engine)
    return engine


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Simulator]:
    from sagajobs.root import servers

    simulator = Simulator(servers().calcom)
    yield simulator
    simulator.close()


@pytest.fixture
def simulator(_simulator: Simulator) -> Iterator[Simulator]:
    """Cal.com's simulator, forgetting everything before the test, healed after it; the circuit to it is closed."""
    from sagajobs.root import circuit

    _simulator.reset()
    circuit().close()
    yield _simulator
    _simulator.heal()


@pytest.fixture
def clean(app_engine) -> Iterator[None]:
    """An empty database before the test; afterwards the invariants, and no saga in flight (SPEC 4)."""
    from sagajobs.booking import invariants

    with app_engine.database.transaction() as connection:
        connection.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE"))
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


class Worker:
    """A Celery worker in its own process group, running the real app with the tests' hooks.

    With `beat`, beat runs within it; with a concurrency of 0 it is nothing but beat.
    """

    def __init__(self, folder: Path, *, app: str = "workerapp", concurrency: int = 2, beat: bool = False, **env: str):
        self.folder = folder
        self.log = folder / f"worker-{uuid.uuid4().hex[:8]}.log"
        plans = folder / "plans"
        plans.mkdir(exist_ok=True)
        schedule = ["-s", str(folder / f"schedule-{self.log.stem}")]
        if concurrency == 0:
            arguments = ["-A", app, "beat", *schedule, "-l", "INFO"]
            self._sign = "beat: Starting..."
        else:
            arguments = ["-A", app, "worker", "-c", str(concurrency), "-l", "DEBUG"]
            arguments += ["-n", f"w{uuid.uuid4().hex[:8]}@test", "--without-gossip", "--without-mingle"]
            arguments += ["-B", *schedule] if beat else []
            self._sign = " ready."
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)]),
            "PLAN_DIR": str(plans),
            "C_FORCE_ROOT": "1",
            **env,
        }
        self.process = nursery.start(arguments, folder=HERE, environment=environment, log=self.log)
        self._await_ready()

    def _await_ready(self) -> None:
        deadline = datetime.now(UTC) + timedelta(seconds=40)
        while self._sign not in (said := self.log.read_text(errors="replace") if self.log.exists() else ""):
            if not self.alive or datetime.now(UTC) > deadline:
                raise AssertionError(f"the worker did not come up:\n{said[-3000:]}")
            threading.Event().wait(0.05)

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        """End the whole worker at once, children and all, as losing its machine would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()

    def ask_to_stop(self) -> None:
        """Have it finish what it is at; `stop` waits for that."""
        if self.alive:
            self.process.terminate()

    def stop(self) -> None:
        self.ask_to_stop()
        # Every fiftieth time or so a child waits 30 s for its parent to count a last result, and the parent, who has
        # left its event loop, for the child (billiard's `_ensure_messages_consumed`): nothing is at work any more.
        self.process.join(6)
        # Beat within it is a process of its own, and may outlive it by a message to a queue that is gone by then.
        with contextlib.suppress(ProcessLookupError):
            self.kill()


@pytest.fixture
def workers(tmp_path, _clean_broker) -> Iterator[Callable[..., Worker]]:
    """Start workers; all are stopped after the test."""
    started: list[Worker] = []

    def start(**options) -> Worker:
        started.append(Worker(tmp_path, **options))
        return started[-1]

    yield start
    for worker in started:
        worker.ask_to_stop()
    for worker in started:
        worker.stop()


@pytest.fixture
def _clean_broker(app_engine) -> None:
    """No message of an earlier test in the queues."""
    from sagajobs.root import app

    with app.connection_for_write() as connection:
        for queue in app.amqp.queues.values():
            bound = queue(connection.default_channel)
            bound.declare()
            bound.purge()


@pytest.fixture(scope="module")
def _shared_worker(tmp_path_factory, app_engine) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("worker"), beat=True)
    yield worker
    worker.stop()


@pytest.fixture
def worker(_shared_worker: Worker) -> Worker:
    """One worker with beat, kept for all tests of a module."""
    assert _shared_worker.alive
    return _shared_worker


def plan_death(worker_folder: Path, saga_id: str, step: str, point: str, whom: str) -> Path:
    """Have a worker die (`child` or `worker`) when it comes to a point with a saga; returns the file that tells."""
    plan = worker_folder / "plans" / f"{saga_id}.{step}.{point}"
    plan.parent.mkdir(exist_ok=True)
    plan.write_text(whom)
    return plan.with_name(plan.name + ".hit")
