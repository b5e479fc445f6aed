"""Changes that need a person: what an operator is told beforehand, and what each remedy leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from sagajobs import AppointmentSyncSaga, RetryPolicy, SagaCompensationException, SagaHandle
from sagajobs.booking.errors import NothingToAdopt
from sagajobs.calcom.models import Location, LocationType
from sagajobs.errors import EffectGone
from sagajobs.saga import Remedy
from sagajobs.saga.explain import explain
from tests.support.refusing import refusing
from tests.support.syncing import FAULTS, LATER, OPERATIONS, assert_in_step, heal, row

SIGNED = {"who": "Op", "why": "looked at it"}
ONCE = RetryPolicy(max_attempts=1, base=0.01)


@pytest.fixture(autouse=True)
def _given_up_soon(impatient_sync, monkeypatch, app_engine):
    for name in ("call_calcom", "update_local"):
        step = AppointmentSyncSaga.definition.step(name)
        monkeypatch.setattr(step, "degraded", replace(step.degraded, retry=ONCE))
    monkeypatch.setattr(app_engine, "publisher", None)


@pytest.fixture
def stuck(subject, simulator):
    """Make a change that Cal.com failed at until a person was asked; it would succeed by now."""

    def make(operation: str):
        appointment, data = subject(operation)
        simulator.fault(FAULTS[operation], "http_503", "before", count=1000)
        with pytest.raises(SagaCompensationException) as caught:
            AppointmentSyncSaga.run(appointment.id, operation, data)
        simulator.heal()
        return appointment, data, SagaHandle(caught.value.saga_id)

    return make


def case(app_engine, handle) -> int:
    return app_engine.review.of(handle.id).number


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_retry_is_explained_down_to_its_calls_and_makes_them(stuck, simulator, app_engine, operation):
    appointment, data, handle = stuck(operation)
    (retry,) = explain(app_engine, case(app_engine, handle), only=Remedy.RETRY, private=True).prospects
    uid = appointment.calcom_v2_booking_id
    told = [(call["method"], call["path"]) for act in retry.follows for call in act.calls]
    assert (
        told
        == {
            "create": [("POST", "/v2/bookings")],
            "update": [("PATCH", f"/v2/bookings/{uid}/location")],
            "cancel": [("POST", f"/v2/bookings/{uid}/cancel")],
            "reschedule": [("POST", f"/v2/bookings/{uid}/reschedule")],
        }[operation]
    )
    app_engine.review.retry(case(app_engine, handle), **SIGNED)
    assert heal(app_engine, handle.id).status() == "completed"
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


def book_by_hand(simulator, app_engine, appointment, start) -> str:
    with app_engine.database.reading() as connection:
        email = connection.execute(
            text("SELECT email FROM customers WHERE id = :id"), {"id": appointment.customer_id}
        ).scalar_one()
    return simulator.book(event_type_id=appointment.event_type_id, start=start.isoformat(), email=email)["uid"]


def by_hand(simulator, app_engine, appointment, operation: str, data: dict) -> str:
    """Do at Cal.com as an operator would; return what he would give as reference."""
    uid = appointment.calcom_v2_booking_id
    if operation == "create":
        return book_by_hand(simulator, app_engine, appointment, appointment.starts_at)
    if operation == "update":
        AppointmentSyncSaga.services.calcom.set_location(uid, Location(LocationType.ADDRESS, data["location"]["place"]))
    if operation == "cancel":
        simulator.host("cancel", uid, reason="ill")
    if operation == "reschedule":
        simulator.host("move", uid, start=data["start"].isoformat())
    return uid


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_an_operator_has_done_is_taken_over(stuck, simulator, app_engine, operation):
    appointment, data, handle = stuck(operation)
    reference = by_hand(simulator, app_engine, appointment, operation, data)
    changes = [call for call in simulator.calls() if call["method"] != "GET"]
    app_engine.review.mark_done(case(app_engine, handle), reference=reference, **SIGNED)
    assert heal(app_engine, handle.id).status() == "completed"
    assert [call for call in simulator.calls() if call["method"] != "GET"] == changes
    here = row(app_engine, appointment.id)
    assert here.calcom_sync_status == ("cancelled" if operation == "cancel" else "synced")
    (there,) = [one for one in simulator.ledger() if one["uid"] == here.calcom_v2_booking_id]
    assert here.starts_at.isoformat(timespec="milliseconds") == there["start"].replace("Z", "+00:00")
    assert handle.result()["success"]


def test_a_booking_that_was_cancelled_and_made_anew_is_taken_for_the_moved_one(stuck, simulator, app_engine):
    appointment, data, handle = stuck("reschedule")
    simulator.host("cancel", appointment.calcom_v2_booking_id, reason="by hand")
    reference = book_by_hand(simulator, app_engine, appointment, data["start"])
    app_engine.review.mark_done(case(app_engine, handle), reference=reference, **SIGNED)
    assert heal(app_engine, handle.id).status() == "completed"
    here = row(app_engine, appointment.id)
    assert (here.calcom_v2_booking_id, here.starts_at, here.status) == (reference, data["start"], "rescheduled")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_does_not_show_at_cal_com_is_not_taken_over(stuck, booked, simulator, app_engine, operation):
    appointment, _, handle = stuck(operation)
    other = booked(start=appointment.starts_at + LATER)
    simulator.host("cancel", other.calcom_v2_booking_id, reason="ill") if operation == "cancel" else None
    with pytest.raises((NothingToAdopt, EffectGone)):
        app_engine.review.mark_done(case(app_engine, handle), reference=other.calcom_v2_booking_id, **SIGNED)
    app_engine.review.abandon(case(app_engine, handle), **SIGNED)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_done_without_the_appointment_is_as_it_was(stuck, app_engine, db, operation):
    appointment, _, handle = stuck(operation)
    app_engine.review.skip(case(app_engine, handle), **SIGNED)
    assert heal(app_engine, handle.id).status() == "completed"
    here = row(app_engine, appointment.id)
    assert (here.status, here.calcom_sync_status) == (appointment.status, appointment.calcom_sync_status)
    assert (here.moving_starts_at, here.starts_at) == (None, appointment.starts_at)
    assert handle.result()["success"] is False
    assert handle.public_status() == ("held" if operation == "create" else "confirmed")


def test_abandoned_it_stays_out_of_step_and_the_next_change_may_come(stuck, app_engine, simulator):
    appointment, _, handle = stuck("reschedule")
    app_engine.review.abandon(case(app_engine, handle), **SIGNED)
    here = row(app_engine, appointment.id)
    assert (here.calcom_sync_status, str(here.sync_saga_id)) == ("error", handle.id), "and nobody is asked any more"
    data = {"start": appointment.starts_at + 2 * LATER}
    assert AppointmentSyncSaga.run(appointment.id, "reschedule", data)["success"]
    assert_in_step(app_engine, simulator, "reschedule", appointment.id, data)


def test_the_row_is_mended_and_the_saga_catches_up(booked, simulator, app_engine, db):
    appointment = booked()
    refused = refusing(app_engine, "appointments", "UPDATE OF calcom_v2_booking_id")
    with refused, pytest.raises(SagaCompensationException) as caught:
        AppointmentSyncSaga.run(appointment.id, "cancel")
    handle = SagaHandle(caught.value.saga_id)
    app_engine.review.retry(case(app_engine, handle), **SIGNED)
    assert heal(app_engine, handle.id).status() == "completed"
    assert_in_step(app_engine, simulator, "cancel", appointment.id, {})
    history = db.execute(text("SELECT action FROM audit_log WHERE saga_id = :id ORDER BY id"), {"id": handle.id})
    assert [one.action for one in history] == [
        "appointment.marked_for_retry",
        "appointment.review_required",
        "case.retry",
        "appointment.cancelled",
    ]
