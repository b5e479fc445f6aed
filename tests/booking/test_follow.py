"""`AppointmentFollowSaga` against the simulator: what is done at Cal.com reaches our appointment, once and in order."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from sagajobs import AppointmentFollowSaga, InvalidInput, SagaException, SagaHandle
from sagajobs.booking.appointment import Appointment
from tests.support.following import audit, later, latest, move
from tests.support.sagas import record

pytestmark = pytest.mark.usefixtures("impatient_follow")

CONFIRMED_FIRST = 7
"""The event type whose bookings wait for confirmation."""

ROUND_ROBIN = 8
"""The event type that whoever is free gets."""


@pytest.fixture
def booked(unstaffed):
    return unstaffed


def follow(appointment: Appointment, uid: str | None = None, trigger: str | None = None) -> dict:
    hint = {"appointment_id": appointment.id, "booking_uid": uid or appointment.calcom_v2_booking_id, "seen": "now"}
    return AppointmentFollowSaga.run(hint | {"trigger": trigger})


def test_nothing_has_happened(booked, db):
    made = booked()
    assert follow(made) == {"changed": False}
    assert {name: str(step.state) for name, step in latest(db).record().steps.items()} == {
        "find_appointment": "done",
        "see_change": "skipped",
        "read_booking": "done",
        "follow": "done",
        "invalidate_cache": "skipped",
    }


def test_a_cancel_reaches_the_appointment(booked, simulator, row, db):
    made = booked()
    simulator.host("cancel", made.calcom_v2_booking_id, reason="ill")
    assert follow(made, trigger="BOOKING_CANCELLED") == {"changed": True}
    assert (row().status, row().calcom_sync_status, row().deleted_at) == ("cancelled", "cancelled", None)
    (_, entry) = audit(db)
    assert (entry.actor, entry.action) == ("cal.com", "appointment.followed")
    assert entry.detail["status_before"] == "scheduled"
    assert follow(made, trigger="BOOKING_CANCELLED") == {"changed": False}


def test_a_move_reaches_the_appointment_with_uid_and_times(booked, simulator, row):
    made = booked()
    uid = move(simulator, made)
    assert follow(made, uid, "BOOKING_RESCHEDULED") == {"changed": True}
    found = row()
    assert (found.status, found.calcom_sync_status) == ("rescheduled", "synced")
    assert (found.calcom_v2_booking_id, found.starts_at) == (uid, later(made))
    assert found.ends_at - found.starts_at == timedelta(minutes=30)


def test_several_moves_at_once_are_followed_to_the_last(booked, simulator, row):
    made = booked()
    uid = made.calcom_v2_booking_id
    for hours in (3, 4, 5):
        uid = simulator.host("move", uid, start=later(made, hours=hours).isoformat())["uid"]
    assert follow(made) == {"changed": True}
    assert (row().calcom_v2_booking_id, row().starts_at) == (uid, later(made))


def test_moved_and_then_cancelled(booked, simulator, row):
    made = booked()
    uid = move(simulator, made)
    simulator.host("cancel", uid)
    assert follow(made) == {"changed": True}
    assert (row().status, row().calcom_v2_booking_id) == ("cancelled", uid)


def test_confirmed_and_declined(booked, simulator, row):
    first, second = booked(event_type_id=CONFIRMED_FIRST), booked(event_type_id=CONFIRMED_FIRST)
    simulator.host("confirm", first.calcom_v2_booking_id)
    simulator.host("decline", second.calcom_v2_booking_id)
    assert follow(first, trigger="BOOKING_CREATED") == {"changed": True}
    assert follow(second, trigger="BOOKING_REJECTED") == {"changed": True}
    assert (row(first.id).status, row(first.id).calcom_sync_status) == ("scheduled", "synced")
    assert (row(second.id).status, row(second.id).calcom_sync_status) == ("cancelled", "cancelled")


def test_another_host_is_another_staff_member(booked, simulator, row, staff):
    made = booked(event_type_id=ROUND_ROBIN)
    host = next(number for number in (3, 4, 5) if staff[number - 1] != made.staff_id)
    simulator.host("reassign", made.calcom_v2_booking_id, host=host)
    assert follow(made) == {"changed": True}
    assert follow(made, trigger="BOOKING_REASSIGNED") == {"changed": False}
    assert (row().staff_id, row().status) == (staff[host - 1], "scheduled")


def test_a_cancel_that_is_told_before_it_is_done_is_waited_for(booked, simulator, row):
    """The webhook is sent first, and the replica lags."""
    made = booked()
    simulator.switch(lag_ms=300)
    simulator.host("cancel", made.calcom_v2_booking_id)
    assert follow(made, trigger="BOOKING_CANCELLED") == {"changed": True}
    assert row().status == "cancelled"


def test_a_move_that_the_replica_does_not_show_yet_is_waited_for(booked, simulator, row):
    made = booked()
    simulator.switch(lag_ms=300)
    uid = move(simulator, made)
    assert follow(made, uid, "BOOKING_RESCHEDULED") == {"changed": True}
    assert row().calcom_v2_booking_id == uid


def test_what_never_comes_true_is_taken_as_it_reads(booked, row, db):
    made = booked()
    assert follow(made, trigger="BOOKING_CANCELLED") == {"changed": False}
    assert row().status == "scheduled"
    steps = latest(db).record().steps
    assert (steps["see_change"].state, steps["see_change"].attempts) == ("failed", 7)
    assert steps["read_booking"].state == "done"


def test_a_hint_about_a_booking_of_long_ago_costs_no_patience(booked, simulator, row, db):
    made = booked()
    uid = move(simulator, made)
    follow(made)
    assert follow(made, made.calcom_v2_booking_id, "BOOKING_CREATED") == {"changed": False}
    assert latest(db).record().steps["see_change"].attempts == 1
    assert row().calcom_v2_booking_id == uid


@pytest.mark.parametrize("fault", ["http_503", "drop"])
def test_cal_com_does_not_answer_for_a_moment(booked, simulator, row, db, fault):
    made = booked()
    simulator.host("cancel", made.calcom_v2_booking_id)
    simulator.fault("get", fault, count=2)
    assert follow(made) == {"changed": True}
    retries = db.execute(text("SELECT detail FROM saga_events WHERE event = 'step_retry'")).scalars().all()
    assert [detail["circuit"] for detail in retries] == ["closed", "closed"]


def test_cal_com_fails_for_long_and_it_is_given_up_until_another_hint(booked, simulator, row, db):
    made = booked()
    simulator.host("cancel", made.calcom_v2_booking_id)
    simulator.fault("get", "http_503", count=6)
    with pytest.raises(SagaException):
        follow(made)
    assert row().status == "scheduled"
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0
    assert follow(made) == {"changed": True}


def test_a_move_onto_another_appointment_waits_for_that_one_to_go(booked, simulator, row, staff, db):
    """Two appointments change places: the first to be followed finds the other still there, and comes again."""
    first = booked(event_type_id=1)
    second = booked(event_type_id=1, start=later(first))
    away = simulator.host("move", second.calcom_v2_booking_id, start=later(first, hours=7).isoformat())
    uid = move(simulator, first)
    handle = record(AppointmentFollowSaga, {"appointment_id": 1, "booking_uid": uid, "seen": "x"})
    engine = AppointmentFollowSaga.engine
    engine.drive(AppointmentFollowSaga, handle.id, patience=0)
    assert handle.status() == "partial"
    assert (row(1).calcom_sync_status, row(1).status) == ("error", "scheduled")
    assert follow(second, away["uid"]) == {"changed": True}
    engine.drive(AppointmentFollowSaga, handle.id)
    assert handle.result() == {"changed": True}
    assert (row(1).calcom_sync_status, row(1).starts_at) == ("synced", later(first))


@pytest.mark.parametrize("hours", [-24, 5])
def test_a_move_onto_another_appointment_that_stays_is_a_persons_question(booked, simulator, row, staff, db, hours):
    first = booked(event_type_id=1)
    moved = later(first, hours=hours)
    second = booked(event_type_id=2, start=moved)
    with AppointmentFollowSaga.engine.database.transaction() as connection:
        connection.execute(text("UPDATE appointments SET staff_id = :id WHERE id = 2"), {"id": staff[0]})
    uid = move(simulator, first, hours=hours)
    with pytest.raises(SagaException, match="manual review"):
        follow(first, uid, "BOOKING_RESCHEDULED")
    assert row(1).calcom_sync_status == "manual_review_required"
    assert row(1).calcom_v2_booking_id == first.calcom_v2_booking_id
    case = db.execute(text("SELECT * FROM review_cases")).one()
    assert SagaHandle(str(case.saga_id)).public_status() == "needs us"
    said = case.evidence["error"]["message"]
    assert f"appointment 1 was moved at Cal.com to {moved.isoformat()}" in said
    assert f"has appointment {second.id} in our books" in said
    assert case.urgent_at == min(first.starts_at, moved), "whichever of the two somebody comes to first"
    assert case.alert_at < case.urgent_at
    assert [entry.action for entry in audit(db)].count("appointment.not_followed") == 1


def test_a_staff_member_who_is_busy_here_does_not_keep_the_rest_from_being_followed(booked, simulator, row, staff):
    made = booked(event_type_id=2)
    busy = booked(event_type_id=1, start=made.starts_at)
    with AppointmentFollowSaga.engine.database.transaction() as connection:
        connection.execute(text("UPDATE appointments SET staff_id = NULL WHERE id = :id"), {"id": made.id})
        connection.execute(
            text("UPDATE appointments SET staff_id = :staff WHERE id = :id"), {"staff": staff[1], "id": busy.id}
        )
    assert follow(made, trigger="BOOKING_REASSIGNED") == {"changed": False}
    assert row(made.id).staff_id is None


def test_what_is_over_or_gone_is_not_followed(booked, simulator, row):
    made = booked()
    simulator.host("cancel", made.calcom_v2_booking_id)
    with AppointmentFollowSaga.engine.database.transaction() as connection:
        connection.execute(text("UPDATE appointments SET status = 'completed'"))
    assert follow(made) == {"changed": False}
    assert row().status == "completed"
    assert AppointmentFollowSaga.run({"appointment_id": 4711, "booking_uid": "x", "seen": ""}) == {"changed": False}


def test_what_web_applications_read_is_new_when_the_saga_has_ended(booked, simulator, row):
    cache = AppointmentFollowSaga.services.cache
    made = booked()
    assert cache.get(made.id).status == "scheduled"
    simulator.host("cancel", made.calcom_v2_booking_id)
    assert cache.get(made.id).status == "scheduled"
    follow(made)
    assert cache.get(made.id).status == "cancelled"


def test_a_hint_that_makes_no_sense_is_refused(clean):
    with pytest.raises(InvalidInput, match="booking_uid"):
        AppointmentFollowSaga.run({"appointment_id": 1, "booking_uid": "../x", "seen": ""})
