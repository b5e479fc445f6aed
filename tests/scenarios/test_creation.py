"""The seed's seven test scenarios (SPEC 9), for the saga that creates an appointment."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, SagaCompensationException, SagaException, SagaHandle
from sagajobs.booking.outside import METADATA_KEY


def appointments(db) -> list:
    return db.execute(text("SELECT * FROM appointments ORDER BY id")).all()


def saga(db) -> SagaHandle:
    return SagaHandle(str(db.execute(text("SELECT id FROM sagas")).scalar_one()))


def history(db) -> list[str]:
    return list(db.execute(text("SELECT event FROM saga_events ORDER BY id")).scalars())


# --- in this process, with less patience: before there is a worker, which has more and would take over ---


def test_compensation_fails_critical(booking, db, simulator, impatient, failing, caplog):
    """Booked, then a failure here, and Cal.com does not take the cancellation: nothing below it is touched."""
    impatient(AppointmentCreationSaga, "book_calcom")
    failing(AppointmentCreationSaga)
    simulator.fault("cancel", "http_503", "before", count=2)
    with caplog.at_level(logging.CRITICAL, "saga"), pytest.raises(SagaCompensationException) as caught:
        AppointmentCreationSaga.run(booking())
    handle = saga(db)
    assert caught.value.saga_id == handle.id
    assert list(caught.value.failed_compensations) == ["book_calcom"]
    assert handle.status() == "manual_review_required"
    (row,) = appointments(db)
    assert (row.deleted_at, row.calcom_sync_status) == (None, "manual_review_required")
    assert len(simulator.standing()) == 1
    assert "compensation_failed" in history(db)
    said = [record.getMessage() for record in caplog.records]
    assert any("CRITICAL: Compensation failed (saga: appointment_creation, step: book_calcom" in one for one in said)
    assert all(handle.id in one for one in said)
    assert db.execute(text("SELECT count(*) FROM review_cases WHERE closed_at IS NULL")).scalar_one() == 1


def test_manual_review_after_persistent_failure(booking, db, simulator, impatient):
    """Sent, no answer, and no look at Cal.com succeeds either: nobody can tell whether it is booked."""
    impatient(AppointmentCreationSaga, "book_calcom")
    simulator.fault("create", "timeout", "after", count=1)
    simulator.fault("list", "http_503", "before", count=50)
    with pytest.raises(SagaCompensationException, match="needs manual review"):
        AppointmentCreationSaga.run(booking())
    handle = saga(db)
    assert (handle.status(), handle.public_status()) == ("manual_review_required", "needs us")
    (case,) = db.execute(text("SELECT reason, evidence, urgent_at FROM review_cases")).all()
    (row,) = appointments(db)
    assert case.reason == "nothing can tell whether it happened"
    assert case.evidence["probe"]["class"].endswith("CalcomUnavailable")
    assert case.urgent_at == row.starts_at
    assert row.deleted_at is None, "neither undone nor called done"


FAULTS = [(kind, when) for kind in ("timeout", "drop", "http_500", "http_503") for when in ("before", "after")]


def test_all_or_nothing(booking, db, simulator, impatient, failing):
    """Whatever Cal.com answers, and whether the rest succeeds: both sides have it, or neither."""
    impatient(AppointmentCreationSaga, "book_calcom")
    for kind, when in FAULTS:
        simulator.fault("create", kind, when, count=1)
        AppointmentCreationSaga.run(booking())
    failing(AppointmentCreationSaga)
    for kind, when in FAULTS:
        simulator.fault("create", kind, when, count=1)
        with pytest.raises(SagaException):
            AppointmentCreationSaga.run(booking())
    rows = appointments(db)
    standing = {row.calcom_v2_booking_id for row in rows if row.deleted_at is None}
    assert standing == {booked["uid"] for booked in simulator.standing()}
    assert [row.status for row in rows] == ["scheduled"] * len(FAULTS) + ["failed"] * len(FAULTS)


# --- by workers ---


def test_happy_path(worker, booking, db, simulator, staff):
    handle = AppointmentCreationSaga.enqueue(booking())
    assert handle.wait(90) == "completed"
    assert handle.public_status() == "confirmed"
    (row,) = appointments(db)
    (booked,) = simulator.standing()
    assert (row.status, row.calcom_sync_status, row.calcom_v2_booking_id) == ("scheduled", "synced", booked["uid"])
    assert row.staff_id == staff[0]
    assert booked["metadata"] == {METADATA_KEY: f"{handle.id}/book_calcom"}
    assert history(db) == [
        "saga_created",
        "step_completed",  # create_customer
        "step_completed",  # create_appointment
        "step_executing",  # book_calcom: the intent is on record before the call
        "step_completed",
        "step_completed",  # assign_staff
        "saga_completed",
    ]


def test_one_step_fails_and_compensation_runs(worker, booking, db, simulator):
    """Cal.com has given the slot to somebody else in the meantime."""
    request = booking()
    other = simulator.book(event_type_id=request["event_type_id"], start=request["start"].isoformat())
    handle = AppointmentCreationSaga.enqueue(request)
    assert handle.wait(90) == "compensated"
    assert handle.record().failed_step == "book_calcom"
    assert handle.public_status() == "cancelled"
    with pytest.raises(SagaException, match="was undone"):
        handle.result()
    (row,) = appointments(db)
    assert (row.status, row.calcom_sync_status, row.calcom_v2_booking_id) == ("failed", "cancelled", None)
    assert row.deleted_at is not None
    assert [booked["uid"] for booked in simulator.standing()] == [other["uid"]]
    receipt = "SELECT receipt FROM saga_steps WHERE name = 'create_appointment'"
    assert db.execute(text(receipt)).scalar_one()["deleted_at"], "the evidence of the undo"


def test_100_sagas_run_concurrently(worker, booking, db, simulator, staff):
    requests = [booking() for _ in range(100)]
    taken = requests[::10]
    for one in taken:
        simulator.book(event_type_id=one["event_type_id"], start=one["start"].isoformat())
    handles = [AppointmentCreationSaga.enqueue(request) for request in requests]
    ends = [handle.wait(150) for handle in handles]
    assert ends == (["compensated"] + ["completed"] * 9) * 10
    ours = [booked for booked in simulator.standing() if METADATA_KEY in booked["metadata"]]
    assert sorted(booked["metadata"][METADATA_KEY] for booked in ours) == sorted(
        f"{handle.id}/book_calcom" for handle, end in zip(handles, ends, strict=True) if end == "completed"
    )
    standing = [row for row in appointments(db) if row.deleted_at is None]
    assert {row.calcom_v2_booking_id for row in standing} == {booked["uid"] for booked in ours}
    assert len(standing) == 90


def test_retry_after_transient_failure(worker, booking, db, simulator):
    """Cal.com does not answer twice, and nothing was done: the third attempt books."""
    simulator.fault("create", "http_503", "before", count=2)
    handle = AppointmentCreationSaga.enqueue(booking())
    assert handle.wait(90) == "completed"
    assert handle.record().steps["book_calcom"].attempts == 3
    assert history(db).count("step_retry") == 2
    assert len(simulator.ledger()) == 1
