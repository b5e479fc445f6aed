"""Fixtures for tests of `AppointmentSyncSaga`: appointments that are booked, and ones that are not yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from sagajobs import Appointment, AppointmentCreationSaga, AppointmentSyncSaga, SagaHandle
from sagajobs.booking.outside import METADATA_KEY

LATER = timedelta(days=7)

OPERATIONS = ("create", "update", "cancel", "reschedule")
BOOKED = OPERATIONS[1:]
"""The operations that need a booking at Cal.com."""

FAULTS = {"create": "create", "update": "location", "cancel": "cancel", "reschedule": "reschedule"}
"""What the simulator calls the call that an operation makes last."""


@pytest.fixture
def impatient_sync(monkeypatch):
    """Look less patiently for a change at Cal.com, and try again sooner, than in earnest."""
    step = AppointmentSyncSaga.definition.step("call_calcom")
    looks = replace(step.finder.retry, base=0.05, max_delay=0.2, deferral=0.1)
    monkeypatch.setattr(step, "finder", replace(step.finder, over=0.2, retry=looks))
    monkeypatch.setattr(step, "retry", replace(step.retry, base=0.05, max_delay=0.2, deferral=0.1))
    local = AppointmentSyncSaga.definition.step("update_local")
    monkeypatch.setattr(local, "retry", replace(local.retry, base=0.02, max_delay=0.05))


@pytest.fixture
def booked(booking, staff):
    """Make appointments that are booked here and at Cal.com."""

    def make(**changes) -> Appointment:
        return AppointmentCreationSaga.run(booking(**changes))

    return make


@pytest.fixture
def unbooked(booking, staff, app_engine):
    """Make appointments that exist here only, as a web application's own code inserts them."""

    def make(**changes) -> Appointment:
        request = booking(**changes)
        who = request["customer"]
        with app_engine.database.transaction() as connection:
            number = connection.execute(
                text(
                    "WITH who AS (INSERT INTO customers (name, email, time_zone) VALUES (:name, :email, :time_zone) "
                    "RETURNING id) INSERT INTO appointments (customer_id, event_type_id, starts_at, ends_at, staff_id) "
                    "SELECT id, :event_type_id, :start, :end, :staff_id FROM who RETURNING id"
                ),
                {
                    **{name: who[name] for name in ("name", "email", "time_zone")},
                    "event_type_id": request["event_type_id"],
                    "start": request["start"],
                    "end": request["start"] + timedelta(minutes=request["duration_minutes"]),
                    "staff_id": request.get("staff_id"),
                },
            ).scalar_one()
        return row(app_engine, number)

    return make


@pytest.fixture
def planted(booking, unbooked, simulator, app_engine):
    """Make booked appointments without a saga: for tests that want very many."""

    def make(**changes) -> Appointment:
        appointment = unbooked(**changes)
        with app_engine.database.transaction() as connection:
            email = connection.execute(
                text("SELECT email FROM customers WHERE id = :id"), {"id": appointment.customer_id}
            ).scalar_one()
            there = simulator.book(
                event_type_id=appointment.event_type_id, start=appointment.starts_at.isoformat(), email=email
            )
            connection.execute(
                text(
                    "UPDATE appointments SET calcom_v2_booking_id = :uid, status = 'scheduled', "
                    "calcom_sync_status = 'synced' WHERE id = :id"
                ),
                {"uid": there["uid"], "id": appointment.id},
            )
        # Past its sagas: a copy that the cache has under this number is of an earlier test's appointment.
        AppointmentSyncSaga.services.cache.invalidate(appointment.id)
        return row(app_engine, appointment.id)

    return make


def change(appointment, operation: str) -> dict:
    """Return the data to do an operation with."""
    return {
        "create": {},
        "update": {"location": {"type": "address", "place": "Private Street 1"}},
        "cancel": {"reason": "ill"},
        "reschedule": {"start": appointment.starts_at + LATER},
    }[operation]


@pytest.fixture
def subject(booked, unbooked):
    """Make what an operation can be done to, and the data to do it with."""

    def make(operation: str) -> tuple[Appointment, dict]:
        appointment = unbooked() if operation == "create" else booked()
        return appointment, change(appointment, operation)

    return make


def row(app_engine, appointment_id: int):
    """Return an appointment's row."""
    with app_engine.database.reading() as connection:
        return connection.execute(text("SELECT * FROM appointments WHERE id = :id"), {"id": appointment_id}).one()


def due(app_engine) -> None:
    """Let the time pass that steps wait for."""
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE saga_steps SET due_at = NULL"))
        connection.execute(text("UPDATE sagas SET next_at = saga_now() WHERE next_at IS NOT NULL"))


def heal(app_engine, saga_id: str) -> SagaHandle:
    """Carry a saga that waits for its time to its end."""
    due(app_engine)
    app_engine.drive(AppointmentSyncSaga, saga_id)
    return SagaHandle(saga_id)


def sync(appointment, operation: str, data: dict | None = None, **options) -> dict:
    """Do an operation and return what came of it."""
    return AppointmentSyncSaga.run(appointment.id, operation=operation, data=data or {}, **options)


def only_sync(db) -> SagaHandle:
    """Return the one sync that there is."""
    db.rollback()
    return SagaHandle(str(db.execute(text("SELECT id FROM sagas WHERE name = 'appointment_sync'")).scalar_one()))


def audit(db, saga_id: str) -> list[str]:
    """Return what a saga has left in the audit trail, in order."""
    db.rollback()
    rows = db.execute(text("SELECT action FROM audit_log WHERE saga_id = :id ORDER BY id"), {"id": saga_id})
    return [row.action for row in rows]


def assert_as_before(app_engine, appointment, *, why: str, result: dict) -> None:
    """Assert that a change was undone and nothing here tells of it but the audit trail."""
    here = row(app_engine, appointment.id)
    assert (result["success"], result["will_retry"]) == (False, False)
    assert why in result["error"]
    assert SagaHandle(result["saga_id"]).status() == "compensated"
    assert (here.status, here.calcom_sync_status) == (appointment.status, appointment.calcom_sync_status)
    assert (here.starts_at, here.calcom_v2_booking_id) == (appointment.starts_at, appointment.calcom_v2_booking_id)
    assert (here.moving_starts_at, here.moving_ends_at, here.sync_saga_id) == (None, None, None)


def assert_in_step(app_engine, simulator, operation: str, appointment_id: int, data: dict) -> None:
    """Assert that an operation was done, once, here and at Cal.com."""
    here = row(app_engine, appointment_id)
    ledger = {booking["uid"]: booking for booking in simulator.ledger()}
    there = ledger[here.calcom_v2_booking_id]
    trail = _trail(ledger, there)
    acts = [act["what"] for booking in trail for act in booking["history"]]
    assert (here.moving_starts_at, here.moving_ends_at, here.sync_saga_id) == (None, None, None)
    assert here.calcom_sync_status == ("cancelled" if operation == "cancel" else "synced")
    if operation == "cancel":
        assert (here.status, there["status"], acts.count("cancelled")) == ("cancelled", "cancelled", 1)
        return
    assert there["status"] == "accepted"
    assert here.starts_at.isoformat(timespec="milliseconds") == there["start"].replace("Z", "+00:00")
    if operation == "create":
        assert (here.status, acts) == ("scheduled", ["created"])
        assert there["metadata"][METADATA_KEY].endswith("/call_calcom")
    if operation == "update":
        assert here.location == there["location"] == data["location"]["place"]
    if operation == "reschedule":
        assert (here.status, here.starts_at) == ("rescheduled", data["start"])
        assert (len(trail), acts.count("rescheduled")) == (2, 2), "the old one and the new one tell of one move"
    standing = [booking for booking in ledger.values() if booking["status"] in ("accepted", "pending")]
    assert sum(booking["attendees"][0]["email"] == there["attendees"][0]["email"] for booking in standing) == 1


def _trail(ledger: dict[str, dict], booking: dict) -> list[dict]:
    trail = [booking]
    while (uid := trail[-1].get("rescheduledFromUid")) is not None:
        trail.append(ledger[uid])
    return trail
