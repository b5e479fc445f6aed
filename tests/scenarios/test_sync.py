"""The seed's test scenarios (SPEC 9) for the sync saga; "composite all or nothing" is another saga's."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from sagajobs import AppointmentSyncSaga, RetryPolicy, SagaCompensationException, SagaHandle
from tests.support.refusing import refusing
from tests.support.syncing import FAULTS, OPERATIONS, assert_in_step, change, row

pytestmark = pytest.mark.usefixtures("impatient_sync")


# --- in this process, with less patience: before there is a worker, which has more and would take over ---


@pytest.mark.parametrize("operation", OPERATIONS)
def test_compensation_fails_critical(subject, simulator, app_engine, db, caplog, operation):
    """Done at Cal.com, refused by our tables, and the mark for retry too: a person is asked, and alerted."""
    appointment, data = subject(operation)
    refused = "UPDATE OF calcom_v2_booking_id, sync_saga_id"
    with refusing(app_engine, "appointments", refused), pytest.raises(SagaCompensationException) as caught:
        AppointmentSyncSaga.run(appointment.id, operation, data)
    handle = SagaHandle(caught.value.saga_id)
    assert handle.status() == "manual_review_required"
    assert row(app_engine, appointment.id).calcom_sync_status == "manual_review_required"
    assert db.execute(text("SELECT count(*) FROM review_cases WHERE closed_at IS NULL")).scalar_one() == 1
    alerts = [record for record in caplog.records if record.name == "saga" and record.levelname == "CRITICAL"]
    assert {record.saga_id for record in alerts} == {handle.id}
    assert {record.event for record in alerts} == {"compensation_failed", "review_required"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_manual_review_after_persistent_failure(subject, simulator, app_engine, db, monkeypatch, operation):
    step = AppointmentSyncSaga.definition.step("call_calcom")
    monkeypatch.setattr(step, "degraded", replace(step.degraded, retry=RetryPolicy(max_attempts=2, base=0.01)))
    appointment, data = subject(operation)
    standing = len(simulator.standing())
    simulator.fault(FAULTS[operation], "http_503", "before", count=1000)
    with pytest.raises(SagaCompensationException) as caught:
        AppointmentSyncSaga.run(appointment.id, operation, data)
    handle = SagaHandle(caught.value.saga_id)
    assert (handle.status(), handle.public_status()) == ("manual_review_required", "needs us")
    assert handle.record().steps["call_calcom"].attempts == 7
    after = row(app_engine, appointment.id)
    assert (after.status, after.calcom_sync_status) == (appointment.status, "manual_review_required")
    assert len(simulator.standing()) == standing
    case = db.execute(text("SELECT reason, urgent_at FROM review_cases WHERE closed_at IS NULL")).one()
    assert case.reason == "tried again in vain"
    assert case.urgent_at is not None


# --- by workers ---


@pytest.mark.parametrize("operation", OPERATIONS)
def test_happy_path(worker, subject, simulator, app_engine, operation):
    appointment, data = subject(operation)
    handle = AppointmentSyncSaga.enqueue(appointment.id, operation, data)
    assert handle.wait(90) == "completed"
    assert handle.result()["success"]
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


def test_100_sagas_run_concurrently(worker, unbooked, planted, simulator, app_engine, db):
    """A hundred appointments are booked or changed, each in its own way, all at the same time."""
    asked = []
    for n in range(100):
        operation = OPERATIONS[n % 4]
        appointment = unbooked() if operation == "create" else planted()
        data = {"notes": "by the window"} if n % 8 == 1 else change(appointment, operation)
        asked.append((appointment.id, operation, data))
    handles = [AppointmentSyncSaga.enqueue(*one) for one in asked]
    assert [handle.wait(90) for handle in handles] == ["completed"] * 100
    assert [handle.result()["success"] for handle in handles] == [True] * 100
    ledger = simulator.ledger()
    for number, operation, data in asked:
        if "notes" not in data:
            assert_in_step(app_engine, SimpleNamespace(ledger=lambda: ledger), operation, number, data)
    notes = text("SELECT count(*) FROM appointments WHERE notes = 'by the window'")
    assert db.execute(notes).scalar_one() == 13
    assert len(simulator.standing()) == 75
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0


@pytest.mark.parametrize("operation", ["create", "reschedule"])
def test_one_step_fails_and_compensation_runs(worker, subject, simulator, app_engine, db, operation):
    """Cal.com refuses for good: the appointment is as it was before."""
    appointment, data = subject(operation)
    start = data.get("start", appointment.starts_at)
    simulator.book(event_type_id=appointment.event_type_id, start=start.isoformat())
    standing = len(simulator.standing())
    handle = AppointmentSyncSaga.enqueue(appointment.id, operation, data)
    assert handle.wait(90) == "compensated"
    after = row(app_engine, appointment.id)
    assert (after.status, after.calcom_sync_status) == (appointment.status, appointment.calcom_sync_status)
    assert (after.starts_at, after.moving_starts_at) == (appointment.starts_at, None)
    assert len(simulator.standing()) == standing
    events = db.execute(text("SELECT event FROM saga_events WHERE saga_id = :id"), {"id": handle.id}).scalars().all()
    assert {"step_failed", "compensation_completed", "saga_compensated"} <= set(events)


@pytest.mark.parametrize("kind", ["drop", "http_500"])
def test_retry_after_transient_failure(worker, subject, simulator, app_engine, kind):
    """Twice it does not get through; the third time it does. All operations at the same time: each waits for itself."""
    subjects = {operation: subject(operation) for operation in OPERATIONS}
    for operation in OPERATIONS:
        simulator.fault(FAULTS[operation], kind, "before", count=2)
    handles = {
        operation: AppointmentSyncSaga.enqueue(appointment.id, operation, data)
        for operation, (appointment, data) in subjects.items()
    }
    for operation, (appointment, data) in subjects.items():
        assert handles[operation].wait(90) == "completed"
        assert handles[operation].result()["success"]
        assert handles[operation].record().steps["call_calcom"].attempts == 3
        assert_in_step(app_engine, simulator, operation, appointment.id, data)
