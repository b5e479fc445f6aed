"""What the desk asks the database: lists, searches, what customers are told, health."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs.booking.facade import SAGA_ENABLED
from sagajobs.calcom.circuit import Circuit
from sagajobs.calcom.priority import Priority
from sagajobs.calcom.quota import Quota, QuotaSnapshot
from sagajobs.calcom.shared import Shared
from sagajobs.desk import queries, searching
from sagajobs.desk.health import drain, health, late
from sagajobs.errors import InvalidInput, SagaNotFound
from sagajobs.flower import looking
from sagajobs.saga import SagaState
from sagajobs.saga.store import Store
from sagajobs.saga.sweeps import run
from sagajobs.saga.switches import Switch
from tests.support.creating import saga
from tests.support.tables import change


@pytest.fixture
def booked(app_engine, db, booking):
    """Three bookings, carried out here, the oldest first: ids."""
    from sagajobs import AppointmentCreationSaga

    ids = []
    for n in range(3):
        AppointmentCreationSaga.run(booking())
        saga_id = saga(db).id
        change(
            app_engine,
            "UPDATE sagas SET created_at = saga_now() - CAST(:ago AS interval) WHERE id = :id",
            ago=f"{10 - n} hours",
            id=saga_id,
        )
        ids.append(saga_id)
    return ids


def listed(rows) -> list[str]:
    return [row.id for row in rows]


def test_lists_by_age_and_page(db, booked):
    oldest, middle, newest = booked
    everything = {"state": None, "name": None, "before": None, "limit": 10}
    assert listed(queries.saga_list(db, **everything)) == [newest, middle, oldest]
    assert listed(queries.saga_list(db, **everything, older_than=8.5 * 3600)) == [middle, oldest]
    paged = queries.saga_list(db, **{**everything, "limit": 1, "before": newest})
    assert listed(paged) == [middle]
    with pytest.raises(SagaNotFound):
        queries.saga_list(db, **{**everything, "before": str(uuid.uuid4())})


def test_searches_by_all_that_a_person_has_in_hand(db, booked):
    oldest, *_ = booked
    appointment, uid = db.execute(
        text("SELECT id, calcom_v2_booking_id FROM appointments WHERE saga_id = :id"), {"id": oldest}
    ).one()
    for wanted in (oldest, oldest[:8], oldest.upper(), f"  {oldest[:13]} ", str(appointment), uid):
        assert listed(searching.search(db, wanted)) == [oldest], wanted
    for wanted in (oldest[:7] + "zz", "999999999", str(2**70), "no such uid", "'; DROP TABLE sagas; --", "%", "ä"):
        assert searching.search(db, wanted) == [], wanted
    for wanted in ("", "  ", "x" * 201, "a\0b"):
        with pytest.raises(InvalidInput, match="search for"):
            searching.search(db, wanted)


def test_finds_what_customers_are_told(db, app_engine, booked, monkeypatch):
    oldest, middle, newest = booked

    def told(word, **more):
        page = searching.told(db, app_engine, word, limit=10, **more)
        return listed(page.rows), page.goes_on_at

    assert told("confirmed") == ([newest, middle, oldest], None)
    assert told("confirmed", older_than=8.5 * 3600) == ([middle, oldest], None)
    assert told("confirmed", state=SagaState.RUNNING) == ([], None)
    assert told("held") == ([], None)
    with pytest.raises(InvalidInput, match="it is one of held, "):
        told("happy")

    monkeypatch.setattr(searching, "_BATCH", 1)
    monkeypatch.setattr(searching, "LOOKS", 2)
    assert told("cancelled") == ([], middle), "it has looked at two, and goes on behind them"
    assert told("cancelled", before=middle) == ([], None)
    page = searching.told(db, app_engine, "confirmed", limit=1)
    assert (listed(page.rows), page.goes_on_at) == ([newest], newest)


def test_every_word_is_looked_for_in_every_state_in_which_it_is_said(db, app_engine, booked):
    record = Store(db).read(booked[0])
    kind = app_engine.kind_of(record)
    for state in SagaState:
        word = kind.public_status(replace(record, state=state))
        assert state in searching.STATES_OF[word], (state, word)


def test_health_says_what_is_unfinished_and_what_is_late(db, app_engine, booked):
    from sagajobs import AppointmentCreationSaga
    from sagajobs.root import circuit

    handle = _pending(app_engine, AppointmentCreationSaga)
    try:
        change(app_engine, "UPDATE sagas SET next_at = saga_now() - interval '5 min' WHERE id = :id", id=handle)
        found = health(db, app_engine, circuit=circuit(), quota=None)
        assert found.counts == {SagaState.PENDING: 1}
        assert (found.backlog.unfinished, found.backlog.due, found.backlog.overdue) == (1, 1, 1)
        assert found.backlog.oldest.id == handle
        assert found.calls == 1, "one step outside is to be done"
        assert (found.quota_kept, found.quota, found.drained_in) == (False, None, None)
        assert {one.rows for one in found.invariants} == {None}, "nobody has looked yet"
        assert all(sweep.late and sweep.ran_at is None for sweep in found.sweeps)

        run(app_engine, app_engine.sweeps["invariants"])
        found = health(db, app_engine, circuit=None, quota=None)
        assert [one.rows for one in found.invariants] == [0, 0, 0]
        assert {sweep.name for sweep in found.sweeps if not sweep.late} == {"invariants"}
    finally:
        change(app_engine, "DELETE FROM sagas WHERE id = :id", id=handle)


def _pending(app_engine, kind) -> str:
    request = {
        "customer": {"name": "Ann", "email": "ann@example.org", "time_zone": "UTC"},
        "event_type_id": 1,
        "start": datetime.now(UTC).replace(microsecond=0) + timedelta(days=9),
        "duration_minutes": 30,
    }
    with app_engine.database.transaction() as connection, Session(connection) as session:
        return kind.enqueue(request, session=session).id


def test_a_sweep_is_late_when_it_has_been_missed_for_long():
    assert late(1.0, None)
    assert not late(1.0, 59.0), "one that comes each second may wait behind work"
    assert late(1.0, 61.0)
    assert not late(300.0, 899.0)
    assert late(300.0, 901.0)


def test_a_backlog_drains_as_fast_as_the_quota_lets_it():
    free = QuotaSnapshot(120, 63, 0, dict.fromkeys(Priority, 120), 0.0)
    assert drain(100, free) == 0.0, "all of them may go at once"
    assert drain(240, free) == pytest.approx(63.0)
    assert drain(0, QuotaSnapshot(120, 63, 120, dict.fromkeys(Priority, 0), 20.0)) == 20.0


def test_what_redis_would_know_is_not_known_without_it(db, app_engine):
    nowhere = Shared(lambda: "redis://127.0.0.1:1/0", "a key")
    circuit = Circuit(nowhere, failures=5, reset=30, longest_call=10)
    found = health(db, app_engine, circuit=circuit, quota=Quota(nowhere, 120, delay=1))
    assert (found.circuit_kept, found.circuit, found.quota_kept, found.quota) == (True, None, True, None)
    assert found.drained_in is None
    shown = looking.how_all_stands(app_engine, circuit=circuit, quota=Quota(nowhere, 120, delay=1), workers=1)
    assert (shown["circuit"], shown["quota"], shown["drained"]) == ("not known",) * 3
    assert shown["health"].backlog.unfinished == 0, "the rest is known"
    assert "Redis does not tell of circuit and quota" in [one.wrong for one in shown["advice"]]


def test_a_beat_that_is_gone_is_told_before_rare_sweeps_are_late(app_engine, clean):
    def wrong():
        shown = looking.how_all_stands(app_engine, circuit=None, quota=None, workers=1)
        return [one.wrong for one in shown["advice"]]

    for sweep in app_engine.sweeps.values():
        run(app_engine, sweep)
    assert wrong() == []
    change(app_engine, "UPDATE sweeps SET ran_at = ran_at - interval '10 min'")
    assert not app_engine.sweeps["purge"].every < 600, "this one is not late yet"
    assert wrong() == ["no sweep comes about"]
    run(app_engine, app_engine.sweeps["recover"])
    (line,) = wrong()
    assert line.startswith("late: the sweeps ")
    assert "recover" not in line


def test_sagas_that_are_turned_off_are_not_forgotten(app_engine, clean):
    def wrong():
        return [one.wrong for one in looking.how_all_stands(app_engine, circuit=None, quota=None, workers=1)["advice"]]

    switch = Switch(app_engine.database, SAGA_ENABLED, default=True)
    try:
        switch.turn(False, who="tests", why="to see it said")
        assert any(one.startswith("sagas have been turned off for ") for one in wrong())
        switch.turn(True, who="tests", why="seen")
        assert not any("turned off" in one for one in wrong())
    finally:
        change(app_engine, "DELETE FROM switches")
