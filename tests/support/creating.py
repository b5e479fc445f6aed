"""What tests of `AppointmentCreationSaga` look at, and its patience made short."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, SagaHandle


@pytest.fixture
def impatient_creation(request, monkeypatch):
    """Look for a booking less patiently than in earnest, except where patience is what is tested."""
    if "patient" not in request.keywords:
        step = AppointmentCreationSaga.definition.step("book_calcom")
        monkeypatch.setattr(step, "finder", replace(step.finder, over=0.2))
        monkeypatch.setattr(step, "retry", replace(step.retry, base=0.05, max_delay=0.2))


def appointments(db) -> list:
    return db.execute(text("SELECT * FROM appointments ORDER BY id")).all()


def customers(db) -> int:
    return db.execute(text("SELECT count(*) FROM customers")).scalar_one()


def audit(db) -> list[str]:
    return [row.action for row in db.execute(text("SELECT action FROM audit_log ORDER BY id"))]


def saga(db) -> SagaHandle:
    return SagaHandle(str(db.execute(text("SELECT id FROM sagas ORDER BY created_at DESC LIMIT 1")).scalar_one()))


def assert_undone(db, simulator, *, uid: bool) -> None:
    """Assert what a booking leaves that was undone after its appointment was made.

    Args:
        db: a connection.
        simulator: Cal.com's.
        uid: whether the appointment knows its booking, whose end the undo's receipt then tells.
    """
    (row,) = appointments(db)
    assert (row.status, row.calcom_sync_status) == ("failed", "cancelled")
    assert row.deleted_at is not None
    assert (row.calcom_v2_booking_id is not None) == uid
    if uid:
        receipt = db.execute(text("SELECT receipt FROM saga_steps WHERE name = 'book_calcom'")).scalar_one()
        assert receipt == {
            "calcom": "cancelled",
            "uids": [row.calcom_v2_booking_id],
            "status_read_back": "cancelled",
            "cannot_be_taken_back": ["mails"],
        }
    assert customers(db) == 1, "a customer stays known"
    assert simulator.standing() == []
    assert "appointment.deleted" in audit(db)
    assert saga(db).status() == "compensated"
    assert saga(db).public_status() == "cancelled"
