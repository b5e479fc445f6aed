"""`AppointmentSyncSaga` where Cal.com's answer, or its replica, cannot be trusted: what is done is done once."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from sagajobs import AppointmentCreationSaga, AppointmentFollowSaga, AppointmentSyncSaga, SagaHandle
from sagajobs.booking.change import snapshot
from sagajobs.booking.changes import Move
from sagajobs.booking.local import read_appointment
from sagajobs.booking.syncrequest import RescheduleData
from sagajobs.calcom.errors import SlotTaken
from tests.support.syncing import (
    FAULTS,
    LATER,
    OPERATIONS,
    assert_as_before,
    assert_in_step,
    row,
    sync,
)

pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture(autouse=True)
def _impatient(request):
    if "patient" not in request.keywords:
        request.getfixturevalue("impatient_sync")


# --- in doubt ---


@pytest.mark.parametrize("kind", ["timeout", "drop", "http_500", "http_524", "malformed"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_done_and_reported_as_failed_is_found_and_done_once(subject, simulator, app_engine, operation, kind):
    appointment, data = subject(operation)
    simulator.fault(FAULTS[operation], kind, "after", count=1)
    result = sync(appointment, operation, data)
    assert result["success"]
    assert SagaHandle(result["saga_id"]).record().steps["call_calcom"].attempts == 1
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


@pytest.mark.parametrize("kind", ["timeout", "http_503"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_not_done_and_reported_as_failed_is_done_once(subject, simulator, app_engine, operation, kind):
    appointment, data = subject(operation)
    simulator.fault(FAULTS[operation], kind, "before", count=1)
    assert sync(appointment, operation, data)["success"]
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


def test_guests_invited_and_the_location_in_doubt_are_both_seen_to(booked, simulator, app_engine):
    appointment = booked()
    data = {"guests": ["guest@secret.example"], "location": {"type": "phone", "place": "+4930123456"}}
    simulator.fault("location", "drop", "before", count=1)
    assert sync(appointment, "update", data)["success"]
    (there,) = simulator.ledger()
    assert (there["guests"], there["location"]) == (data["guests"], "+4930123456")


@pytest.mark.patient
@pytest.mark.parametrize("operation", ["cancel", "reschedule"])
def test_a_replica_that_lags_does_not_make_us_do_it_twice(subject, simulator, app_engine, operation):
    appointment, data = subject(operation)
    simulator.switch(lag_ms=2500)
    simulator.fault(operation, "timeout", "after", count=1)
    result = sync(appointment, operation, data)
    assert SagaHandle(result["saga_id"]).record().steps["call_calcom"].attempts == 1
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


def move(app_engine, appointment, start) -> Move:
    with Session(app_engine.database.engine) as db:
        before = snapshot(read_appointment(db, appointment.id))
    return Move(AppointmentSyncSaga.services, appointment.id, before, RescheduleData(start=start))


def test_a_slot_taken_by_our_own_earlier_move_is_found_to_be_ours(booked, simulator, app_engine):
    """The replica does not show the move yet: it is neither refused as moved already nor seen."""
    appointment = booked()
    moving = move(app_engine, appointment, appointment.starts_at + LATER)
    simulator.switch(replica_stopped=True, lag_blinds_cancel=True)
    made = moving.call("key")
    with pytest.raises(SlotTaken):
        moving.call("key")
    assert moving.find("key") is None
    simulator.switch(replica_stopped=False)
    assert moving.find("key") == made
    assert len(simulator.standing()) == 1


def test_a_move_that_is_answered_as_made_already_is_taken_for_made(booked, simulator, app_engine):
    appointment = booked()
    moving = move(app_engine, appointment, appointment.starts_at + LATER)
    assert moving.call("key") == moving.call("key")
    assert len(simulator.ledger()) == 2


def test_another_booking_of_the_customer_is_not_taken_for_the_moved_one(booking, simulator, app_engine):
    """Where bookings are confirmed first, Cal.com answers with the attendee's other booking of that time."""
    first = booking(event_type_id=7)
    one = AppointmentCreationSaga.run(first)
    other = AppointmentCreationSaga.run(first | {"start": first["start"] + LATER})
    result = sync(one, "reschedule", {"start": other.starts_at})
    assert_as_before(app_engine, one, why="NotMoved", result=result)
    assert len(simulator.standing()) == 2


# --- what hosts do meanwhile ---


def test_the_host_has_moved_it_and_the_live_one_is_cancelled(booked, simulator, app_engine):
    """The trap: a cancel of the old uid is answered like a second cancel, and the live booking stands."""
    appointment = booked()
    simulator.host("move", appointment.calcom_v2_booking_id, start=(appointment.starts_at + LATER).isoformat())
    result = sync(appointment, "cancel")
    assert result["success"]
    assert simulator.standing() == []
    assert result["appointment"].calcom_v2_booking_id == simulator.ledger()[-1]["uid"]


def test_the_host_has_moved_it_and_the_live_one_is_moved_on(booked, simulator, app_engine):
    appointment = booked()
    simulator.host("move", appointment.calcom_v2_booking_id, start=(appointment.starts_at + LATER / 7).isoformat())
    result = sync(appointment, "reschedule", {"start": appointment.starts_at + LATER})
    (live,) = simulator.standing()
    assert (result["success"], result["appointment"].calcom_v2_booking_id) == (True, live["uid"])
    assert result["appointment"].starts_at == appointment.starts_at + LATER
    assert len(simulator.ledger()) == 3


def test_the_host_has_moved_it_to_where_it_is_wanted(booked, simulator, app_engine):
    appointment = booked()
    start = appointment.starts_at + LATER
    simulator.host("move", appointment.calcom_v2_booking_id, start=start.isoformat())
    result = sync(appointment, "reschedule", {"start": start})
    assert result["appointment"].calcom_v2_booking_id == simulator.standing()[0]["uid"]
    assert len(simulator.ledger()) == 2


def test_the_host_has_moved_it_and_the_live_one_is_updated(booked, simulator, app_engine):
    appointment = booked()
    simulator.host("move", appointment.calcom_v2_booking_id, start=(appointment.starts_at + LATER).isoformat())
    result = sync(appointment, "update", {"location": {"type": "address", "place": "Private Street 1"}})
    (live,) = simulator.standing()
    assert live["location"] == "Private Street 1"
    assert result["receipt"]["uid"] == live["uid"]
    here = result["appointment"]
    assert (here.calcom_v2_booking_id, here.starts_at) == (appointment.calcom_v2_booking_id, appointment.starts_at)
    follow = AppointmentFollowSaga.run({"appointment_id": appointment.id, "booking_uid": live["uid"], "seen": "later"})
    assert follow["changed"]
    here = row(app_engine, appointment.id)
    assert (here.calcom_v2_booking_id, here.starts_at) == (live["uid"], appointment.starts_at + LATER)


@pytest.mark.parametrize("operation", ["update", "reschedule"])
def test_the_host_has_cancelled_it_and_nothing_can_be_changed(subject, simulator, app_engine, operation):
    appointment, data = subject(operation)
    simulator.host("cancel", appointment.calcom_v2_booking_id, reason="ill")
    assert_as_before(app_engine, appointment, why="BookingGone", result=sync(appointment, operation, data))
    assert simulator.standing() == []


def test_the_host_has_declined_it_and_it_cannot_be_moved(booked, simulator, app_engine):
    appointment = booked(event_type_id=7)
    simulator.host("decline", appointment.calcom_v2_booking_id, reason="ill")
    result = sync(appointment, "reschedule", {"start": appointment.starts_at + LATER})
    assert_as_before(app_engine, appointment, why="BookingGone", result=result)


def test_the_host_has_cancelled_it_and_that_is_what_was_wanted(booked, simulator, app_engine):
    appointment = booked()
    simulator.host("cancel", appointment.calcom_v2_booking_id, reason="ill")
    assert sync(appointment, "cancel")["success"]
    assert_in_step(app_engine, simulator, "cancel", appointment.id, {})
