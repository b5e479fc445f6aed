"""Fixtures for tests of `AppointmentFollowSaga`: appointments that hosts do something to."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentFollowSaga, SagaHandle
from sagajobs.booking.appointment import Appointment


@pytest.fixture
def impatient_follow(monkeypatch):
    """Look less patiently for a change that was told, and try again sooner, than in earnest."""
    for name in ("see_change", "read_booking"):
        step = AppointmentFollowSaga.definition.step(name)
        monkeypatch.setattr(step, "retry", replace(step.retry, base=0.05, max_delay=0.1))
    follow = AppointmentFollowSaga.definition.step("follow")
    monkeypatch.setattr(follow, "degraded", replace(follow.degraded, retry=replace(follow.degraded.retry, base=0.05)))


@pytest.fixture
def unstaffed(booking):
    """Make appointments that are booked here and at Cal.com, whose hosts are no staff of ours."""

    def make(**changes) -> Appointment:
        return AppointmentCreationSaga.run(booking(**changes))

    return make


@pytest.fixture
def row(db):
    """Read an appointment as the database has it."""

    def read(appointment_id: int = 1):
        return db.execute(text("SELECT * FROM appointments WHERE id = :id"), {"id": appointment_id}).one()

    return read


def latest(db) -> SagaHandle:
    """Return the newest saga that follows."""
    row = db.execute(text("SELECT id FROM sagas WHERE name = 'appointment_follow' ORDER BY created_at DESC LIMIT 1"))
    return SagaHandle(str(row.scalar_one()))


def audit(db) -> list:
    """Return the whole audit trail, in order."""
    return db.execute(text("SELECT actor, action, detail FROM audit_log ORDER BY id")).all()


def later(appointment: Appointment, **by: float) -> datetime:
    """Return a time after an appointment's start, five hours unless told otherwise."""
    return appointment.starts_at + timedelta(**(by or {"hours": 5}))


def move(simulator, appointment: Appointment, **by: float) -> str:
    """Move a booking as a host does; returns its new uid."""
    return simulator.host("move", appointment.calcom_v2_booking_id, start=later(appointment, **by).isoformat())["uid"]
