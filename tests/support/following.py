"""Fixtures for tests of `AppointmentFollowSaga`: appointments that hosts do something to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentFollowSaga, SagaHandle
from sagajobs.booking.appointment import Appointment
from sagajobs.booking.reconcile import WINDOW, Reconciliation, Window
from sagajobs.root import calcom
from tests.support.tables import change


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


class _Nobody:
    def add(self, kind) -> None: ...

    def steps(self, kind, saga_id, names) -> None: ...

    def compensation(self, kind, saga_id) -> None: ...


@pytest.fixture
def nobody_at_work(app_engine, clean, monkeypatch):
    """No worker hears of anything."""
    monkeypatch.setattr(app_engine, "publisher", _Nobody())


@pytest.fixture
def booked_long_ago(app_engine, booking, simulator):
    """Book, a while ago, and return the appointment."""

    def book(**changes):
        made = AppointmentCreationSaga.run(booking(**changes))
        let_time_pass(app_engine)
        return made

    return book


@pytest.fixture
def reconcile(app_engine):
    """Compare the day of an appointment, two minutes from now."""

    def go(made, *, minutes: float = 2) -> int:
        first = made.starts_at - timedelta(hours=1)
        now = datetime.now(UTC) + timedelta(minutes=minutes)
        return Reconciliation(app_engine, calcom(), Window(first, first + WINDOW, now)).run()

    return go


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


def let_time_pass(app_engine) -> None:
    """Everything in our tables is as it was two minutes ago."""
    change(app_engine, "UPDATE appointments SET updated_at = updated_at - interval '2 min'")
    change(app_engine, "UPDATE sagas SET ended_at = ended_at - interval '2 min'")


def hints(app_engine, db) -> list[dict]:
    """Return what followers were told, having carried them out."""
    rows = db.execute(
        text("SELECT id, input FROM sagas WHERE name = :name ORDER BY created_at"), {"name": AppointmentFollowSaga.name}
    ).all()
    for row in rows:
        app_engine.drive(AppointmentFollowSaga, str(row.id))
    return [row.input for row in rows]


def said(caplog) -> list[str]:
    return [line.event for line in caplog.records if getattr(line, "event", "").startswith("reconcile")]
