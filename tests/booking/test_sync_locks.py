"""An appointment belongs to one saga at a time: what a sync does while another saga works on its appointment (G6)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, SagaHandle
from sagajobs.testing.waiting import wait_for
from tests.support.sagas import record
from tests.support.syncing import LATER, assert_in_step, row

pytestmark = pytest.mark.usefixtures("impatient_sync")
ADDRESS = {"location": {"type": "address", "place": "Private Street 1"}}


def begun(app_engine, kind, request, steps: int) -> SagaHandle:
    """Start a saga, and stop after so many of its steps: its worker is slow."""
    handle = record(kind, request)
    for step in kind.definition.steps[:steps]:
        app_engine.executor.forward(kind, step, handle.id)
    return handle


def request(appointment, operation: str, data: dict) -> dict:
    return {"appointment_id": appointment.id, "operation": operation, "data": data}


def finish(app_engine, handle) -> None:
    kind = app_engine.kinds[handle.record().name]
    app_engine.drive(kind, handle.id)


def waiting(db) -> int:
    db.rollback()
    return db.execute(text("SELECT count(*) FROM saga_locks WHERE NOT held")).scalar_one()


@contextmanager
def beside(call, *arguments, **options):
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call, *arguments, **options)


def test_a_second_sync_waits_for_the_first_one_and_finds_what_it_left(booked, simulator, app_engine, db):
    appointment = booked()
    start = appointment.starts_at + LATER
    first = begun(app_engine, AppointmentSyncSaga, request(appointment, "reschedule", {"start": start}), 2)
    with beside(AppointmentSyncSaga.run, appointment.id, "update", ADDRESS) as second:
        wait_for(lambda: waiting(db) == 1)
        assert row(app_engine, appointment.id).starts_at == appointment.starts_at
        finish(app_engine, first)
        assert second.result(120)["success"]
    (live,) = simulator.standing()
    here = row(app_engine, appointment.id)
    assert live["location"] == here.location == "Private Street 1"
    assert (here.calcom_v2_booking_id, here.starts_at, here.status) == (live["uid"], start, "rescheduled")


def test_a_sync_waits_for_the_saga_that_makes_its_appointment(booking, simulator, app_engine, db, staff):
    """Nothing is wrong with it: what is not booked yet may be, once it is its turn."""
    creation = begun(app_engine, AppointmentCreationSaga, booking(), 2)
    number = creation.record().results["create_appointment"]["appointment_id"]
    with beside(AppointmentSyncSaga.run, number, "cancel") as sync:
        wait_for(lambda: waiting(db) == 1)
        assert simulator.ledger() == []
        finish(app_engine, creation)
        assert sync.result(120)["success"]
    assert creation.status() == "completed"
    assert_in_step(app_engine, simulator, "cancel", number, {})


def test_what_it_waited_for_has_left_it_nothing_to_change(booked, simulator, app_engine, db):
    appointment = booked()
    first = begun(app_engine, AppointmentSyncSaga, request(appointment, "cancel", {}), 1)
    with beside(AppointmentSyncSaga.run, appointment.id, "update", ADDRESS) as second:
        wait_for(lambda: waiting(db) == 1)
        finish(app_engine, first)
        result = second.result(120)
    assert (result["success"], result["will_retry"]) == (False, False)
    assert "NoLongerPossible" in result["error"]
    assert row(app_engine, appointment.id).status == "cancelled"
    assert SagaHandle(result["saga_id"]).status() == "compensated"


def test_a_creation_that_is_undone_leaves_nothing_to_sync(booking, simulator, app_engine, db):
    wanted = booking()
    simulator.book(event_type_id=wanted["event_type_id"], start=wanted["start"].isoformat())
    creation = begun(app_engine, AppointmentCreationSaga, wanted, 2)
    number = creation.record().results["create_appointment"]["appointment_id"]
    with beside(AppointmentSyncSaga.run, number, "cancel") as sync:
        wait_for(lambda: waiting(db) == 1)
        finish(app_engine, creation)
        result = sync.result(120)
    assert (result["success"], result["will_retry"]) == (False, False)
    assert "NoLongerPossible" in result["error"]
    assert row(app_engine, number).deleted_at is not None


def test_a_wait_has_an_end(booked, simulator, app_engine, monkeypatch):
    monkeypatch.setattr(AppointmentSyncSaga, "lock_wait", 0.3)
    appointment = booked()
    first = begun(app_engine, AppointmentSyncSaga, request(appointment, "update", ADDRESS), 1)
    result = AppointmentSyncSaga.run(appointment.id, "cancel")
    assert (result["success"], result["will_retry"]) == (False, False)
    assert "LockNotAvailable" in result["error"]
    finish(app_engine, first)
    assert first.status() == "completed"
    assert row(app_engine, appointment.id).status == "scheduled"


@pytest.mark.parametrize("times", [10])
def test_many_at_once_take_turns(worker, booked, simulator, app_engine, db, times):
    appointment = booked()
    handles = [
        AppointmentSyncSaga.enqueue(appointment.id, "reschedule", {"start": appointment.starts_at + n * LATER / 7})
        for n in range(1, times + 1)
    ]
    assert [handle.wait(90) for handle in handles] == ["completed"] * times
    (live,) = simulator.standing()
    assert len(simulator.ledger()) == times + 1, "each moved the live one, once"
    here = row(app_engine, appointment.id)
    assert (here.calcom_v2_booking_id, here.status) == (live["uid"], "rescheduled")
    spans = db.execute(
        text(
            "SELECT saga_id, min(at) FILTER (WHERE event = 'step_completed') AS locked, max(at) AS ended "
            "FROM saga_events WHERE saga_id = ANY(CAST(:ids AS uuid[])) GROUP BY saga_id ORDER BY locked"
        ),
        {"ids": [handle.id for handle in handles]},
    ).all()
    assert all(one.ended <= next_one.locked for one, next_one in pairwise(spans))
