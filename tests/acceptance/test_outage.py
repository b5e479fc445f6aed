"""Cal.com is away while many changes wait: no attempt is wasted, its return is no storm, and all of them are made."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from sqlalchemy import text

from sagajobs import AppointmentFollowSaga, AppointmentSyncSaga, SagaHandle
from sagajobs.calcom.circuit import CircuitState
from sagajobs.saga.sweep import recover
from sagajobs.testing.broker import HandBroker
from sagajobs.testing.clock import Clock
from sagajobs.testing.waiting import wait_for
from tests.support import gated, timelapse
from tests.support.syncing import assert_in_step, change

NEAR, FAR = 40, 160
"""Changes of appointments of the next day, and of later ones."""

CALLS = 80
"""Calls that Cal.com takes in its (shortened) minute."""

OUTAGE = (1, 9, 50, 120, 180)
"""Minutes from one look at a Cal.com that is away to the next: six hours."""


class CircuitClock:
    """What the database and the circuit take for the time: it passes as always, and leaps when it is told to."""

    def __init__(self, clock: Clock, opened_at: str) -> None:
        self._clock = clock
        self._opened_at = opened_at

    def leap(self, minutes: float) -> None:
        from sagajobs.root import servers

        self._clock.leap(60 * minutes)
        with redis.Redis.from_url(servers().redis, socket_timeout=60) as client:
            assert client.exists(self._opened_at)
            client.decrby(self._opened_at, int(60 * minutes))


@pytest.fixture
def asked(planted):
    """Make booked appointments, those of the next day last, and the changes that are wanted of them."""

    def make(*, near: int, far: int) -> list[tuple]:
        soon = (datetime.now(UTC) + timedelta(hours=12)).replace(minute=0, second=0, microsecond=0)
        appointments = [planted() for _ in range(far)]
        appointments += [planted(start=soon + timedelta(minutes=30 * (n // 5))) for n in range(near)]
        operations = ["update" if n % 20 == 0 else ("cancel", "reschedule")[n % 2] for n in range(near + far)]
        return [(one, what, change(one, what)) for one, what in zip(appointments, operations, strict=True)]

    return make


def enqueue(changes: list[tuple]) -> list[SagaHandle]:
    return [AppointmentSyncSaga.enqueue(one.id, operation, data) for one, operation, data in changes]


def value(db, query: str) -> Any:
    db.rollback()  # a look at what is there now
    return db.execute(text(query)).scalar_one()


def attempts(db) -> int:
    return value(db, "SELECT sum(attempts) FROM saga_steps WHERE name = 'call_calcom'")


def history(db) -> int:
    return value(db, "SELECT count(*) FROM saga_events")


def unfinished(db) -> int:
    return value(db, "SELECT count(*) FROM sagas WHERE state <> 'completed'")


def assert_all_made(app_engine, simulator, changes: list[tuple]) -> None:
    ledger = simulator.ledger()
    for one, operation, data in changes:
        assert_in_step(app_engine, SimpleNamespace(ledger=lambda: ledger), operation, one.id, data)


@pytest.mark.siege
def test_hours_cost_nothing_and_the_return_is_no_storm(asked, simulator, app_engine, db, monkeypatch, saga_clock):
    timelapse.shorten(monkeypatch.setattr)
    circuit, shared = gated.gate(monkeypatch, AppointmentSyncSaga, per_minute=CALLS)
    broker = HandBroker(app_engine)
    monkeypatch.setattr(app_engine, "publisher", broker)
    clock = CircuitClock(saga_clock, shared.name("circuit", "pybreaker", "opened_at"))
    changes = asked(near=NEAR, far=FAR)
    before = len(simulator.calls())

    simulator.fault("any", "drop", probability=1)
    handles = enqueue(changes)
    broker.drain(most=2 * len(changes))
    assert circuit.state() is CircuitState.OPEN
    assert attempts(db) == len(simulator.calls()) - before == gated.FAILURES, "what it takes to notice"
    lines = history(db)
    for minutes in OUTAGE:
        clock.leap(minutes)
        recover(app_engine)
        broker.drain(most=len(changes))
    assert len(simulator.calls()) - before == gated.FAILURES + len(OUTAGE), "one trial each time, whoever waits"
    assert attempts(db) == gated.FAILURES, "none wasted"
    assert history(db) == lines, "no line of history for all the waiting"

    simulator.heal()
    simulator.limit(CALLS, window=timelapse.MINUTE)
    before = len(simulator.calls())
    clock.leap(1)
    delivered = 0

    def done() -> bool:
        nonlocal delivered
        recover(app_engine)
        delivered += broker.drain(most=3 * len(changes))
        return unfinished(db) == 0

    wait_for(done, 120)
    calls = simulator.calls()[before:]
    assert [call for call in calls if call["status"] == 429] == []
    assert timelapse.fullest(calls) <= CALLS
    assert len(calls) > 2 * CALLS, "the limit was met"
    assert attempts(db) <= len(changes) + gated.FAILURES
    assert value(db, "SELECT count(*) FROM review_cases") == 0
    assert delivered < 6 * len(changes), "three steps each, and some waits"
    ends = dict(tuple(row) for row in db.execute(text("SELECT id::text, extract(epoch FROM ended_at) FROM sagas")))
    far, near = ([ends[one.id] for one in some] for some in (handles[:FAR], handles[FAR:]))
    assert statistics.median(near) < statistics.median(far), "though they were asked for last"
    assert_all_made(app_engine, simulator, changes)


HINTS = 30


def test_hints_are_kept_for_hours_and_all_are_followed(planted, simulator, app_engine, db, monkeypatch, saga_clock):
    """Cal.com goes away right after its hosts have cancelled what it told us of; nobody holds an appointment for it."""
    timelapse.shorten(monkeypatch.setattr)
    _, shared = gated.gate(monkeypatch, AppointmentFollowSaga, per_minute=HINTS)
    broker = HandBroker(app_engine)
    monkeypatch.setattr(app_engine, "publisher", broker)
    clock = CircuitClock(saga_clock, shared.name("circuit", "pybreaker", "opened_at"))
    for appointment in [planted() for _ in range(HINTS)]:
        uid = appointment.calcom_v2_booking_id
        simulator.host("cancel", uid)
        hint = {"appointment_id": appointment.id, "booking_uid": uid, "trigger": "BOOKING_CANCELLED", "seen": "x"}
        AppointmentFollowSaga.enqueue(hint)
    looks = "SELECT sum(attempts) FROM saga_steps"
    locks = "SELECT count(*) FROM saga_locks"

    simulator.fault("any", "drop", probability=1)
    broker.drain(most=3 * HINTS)
    found = HINTS  # the first step of each, here
    assert value(db, looks) == found + gated.FAILURES, "what it takes to notice"
    lines = history(db)
    for minutes in OUTAGE:
        clock.leap(minutes)
        recover(app_engine)
        broker.drain(most=2 * HINTS)
        assert value(db, locks) == 0
    assert (value(db, looks), history(db)) == (found + gated.FAILURES, lines), "nothing for all the waiting"

    simulator.heal()
    simulator.limit(HINTS, window=timelapse.MINUTE)
    before = len(simulator.calls())
    clock.leap(1)

    def done() -> bool:
        recover(app_engine)
        broker.drain(most=5 * HINTS)
        return unfinished(db) == 0

    wait_for(done)
    calls = simulator.calls()[before:]
    assert [call for call in calls if call["status"] == 429] == []
    assert len(calls) == HINTS + 1, "a look each, and the trial"
    assert value(db, "SELECT count(*) FROM appointments WHERE status = 'cancelled'") == HINTS


IN_FLIGHT = 3
"""Calls that the other processes may have sent when the last failure opens the circuit."""

TRIALS = 3

LATE = 4
"""Calls, one of each process, that Cal.com may get when they do not count here any more: the machine stood still."""


def test_workers_leave_it_alone_until_it_is_back(asked, workers, simulator, app_engine, db):
    changes = asked(near=10, far=30)
    simulator.limit(40 + LATE, window=timelapse.MINUTE)
    simulator.fault("any", "http_503", probability=1)
    before, began = simulator.counts()["calls"], time.monotonic()
    options = {"SHORT_MINUTE": "1", "SAGAJOBS_CALCOM_QUOTA": "40", "SAGAJOBS_CALCOM_READ_TIMEOUT": "60"}
    for beat in (True, False):
        workers(concurrency=2, beat=beat, SAGAJOBS_STALL_AFTER="15", **options)
    handles = enqueue(changes)
    wait_for(lambda: value(db, "SELECT count(*) FROM sagas WHERE stage = 1") == len(changes))
    noticed = gated.FAILURES + IN_FLIGHT
    wait_for(lambda: simulator.counts()["calls"] - before >= noticed + TRIALS)
    in_vain = simulator.counts()["calls"] - before
    assert in_vain <= noticed + 1 + (time.monotonic() - began), "one trial a second (`tests/conftest.py`)"
    assert attempts(db) <= noticed
    simulator.heal()
    assert {handle.wait(90) for handle in handles} == {"completed"}
    assert attempts(db) <= len(changes) + noticed
    assert "429" not in simulator.counts()["statuses"]
    assert value(db, "SELECT count(*) FROM review_cases") == 0
    assert_all_made(app_engine, simulator, changes)
