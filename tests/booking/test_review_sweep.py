"""The review sweep on bookings: settled at Cal.com by hand, or found once Cal.com is back, the saga ends by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, SagaCompensationException, SagaHandle
from sagajobs.saga.sweeps import run


@pytest.fixture(autouse=True)
def _impatient(monkeypatch, app_engine):
    """Ask a person soon, and look for a booking less patiently than in earnest."""
    step = AppointmentCreationSaga.definition.step("book_calcom")
    quick = replace(step.finder.retry, max_attempts=2, base=0.05, max_delay=0.1)
    monkeypatch.setattr(step, "finder", replace(step.finder, over=0.2, retry=quick))
    monkeypatch.setattr(step, "retry", replace(step.retry, base=0.05, max_delay=0.2))
    monkeypatch.setattr(step.undo, "retry", replace(step.undo.retry, max_attempts=2, base=0.05))
    monkeypatch.setattr(app_engine, "publisher", None)


def only_saga(db) -> SagaHandle:
    return SagaHandle(str(db.execute(text("SELECT id FROM sagas")).scalar_one()))


def sweep_later(app_engine, *, was: str) -> None:
    with app_engine.database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE review_cases SET opened_at = opened_at - interval '1 h', look_at = saga_now(), "
                "alert_at = saga_now() + interval '1 h', was = :was"
            ),
            {"was": was},
        )
        connection.execute(text("UPDATE saga_steps SET absent_since = absent_since - interval '1 h'"))
    run(app_engine, app_engine.sweeps["review"])


def test_a_booking_that_a_host_cancels_by_hand_lets_the_undo_go_on(booking, db, simulator, app_engine, monkeypatch):
    def fail(self, db):
        raise ValueError

    last = AppointmentCreationSaga.definition.step("assign_staff")
    monkeypatch.setattr(last, "method", fail)
    monkeypatch.setattr(last, "optional", False)
    simulator.fault("cancel", "http_503", "before", count=50)
    with pytest.raises(SagaCompensationException):
        AppointmentCreationSaga.run(booking())
    handle = only_saga(db)
    sweep_later(app_engine, was="compensating")
    assert handle.status() == "manual_review_required", "the booking stands"
    (booked,) = simulator.standing()
    simulator.heal()
    simulator.host("cancel", booked["uid"])
    sweep_later(app_engine, was="compensating")
    assert handle.status() == "compensating"
    app_engine.drive(AppointmentCreationSaga, handle.id)
    assert handle.status() == "compensated"
    (row,) = db.execute(text("SELECT status, calcom_sync_status, deleted_at FROM appointments")).all()
    assert (row.status, row.calcom_sync_status) == ("failed", "cancelled")
    assert row.deleted_at is not None
    (case,) = db.execute(text("SELECT resolution, closed_by FROM review_cases")).all()
    assert tuple(case) == ("settled", "sagajobs")


def test_a_booking_in_doubt_is_found_when_cal_com_is_back(booking, db, simulator, app_engine):
    simulator.fault("create", "http_500", "after")
    simulator.fault("list", "http_503", count=50)
    with pytest.raises(SagaCompensationException):
        AppointmentCreationSaga.run(booking())
    handle = only_saga(db)
    sweep_later(app_engine, was="running")
    assert handle.status() == "manual_review_required"
    assert db.execute(text("SELECT looks FROM review_cases")).scalar_one() == 0, "Cal.com was not to be asked"
    simulator.heal()
    sweep_later(app_engine, was="running")
    app_engine.drive(AppointmentCreationSaga, handle.id)
    assert handle.status() == "completed"
    (booked,) = simulator.standing()
    assert handle.result().calcom_v2_booking_id == booked["uid"]
