"""`AppointmentSyncSaga`: each operation, each way it can go, with the exact end here and at Cal.com."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs import (
    AppointmentCreationSaga,
    AppointmentFollowSaga,
    AppointmentSyncSaga,
    InvalidInput,
    RetryPolicy,
    SagaCompensationException,
    SagaException,
    SagaHandle,
)
from sagajobs.booking.cache import AppointmentCache
from sagajobs.booking.change import snapshot
from sagajobs.booking.changes import Move
from sagajobs.booking.local import read_appointment
from sagajobs.booking.syncrequest import RescheduleData
from sagajobs.calcom.errors import SlotTaken
from sagajobs.calcom.operations import CANCEL_BOOKING
from sagajobs.saga import faultpoints
from tests.support.refusing import refusing
from tests.support.sagas import reason
from tests.support.syncing import FAULTS, LATER, assert_in_step, due, heal, row, seen_at_cal_com
from tests.support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("simulator")
OPERATIONS = ("create", "update", "cancel", "reschedule")
BOOKED = OPERATIONS[1:]
ONCE = RetryPolicy(max_attempts=1, base=0.01)


@pytest.fixture(autouse=True)
def _impatient(request):
    if "patient" not in request.keywords:
        request.getfixturevalue("impatient_sync")


def sync(appointment, operation: str, data: dict | None = None, **options) -> dict:
    return AppointmentSyncSaga.run(appointment.id, operation=operation, data=data or {}, **options)


def only_sync(db) -> SagaHandle:
    db.rollback()
    return SagaHandle(str(db.execute(text("SELECT id FROM sagas WHERE name = 'appointment_sync'")).scalar_one()))


def audit(db, saga_id: str) -> list[str]:
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


# --- as it should go ---


@pytest.mark.parametrize("operation", OPERATIONS)
def test_it_is_done_here_and_there(subject, simulator, app_engine, db, operation):
    appointment, data = subject(operation)
    result = sync(appointment, operation, data)
    handle = SagaHandle(result["saga_id"])
    assert (result["success"], result["will_retry"]) == (True, False)
    assert result == handle.result()
    assert {str(step.state) for step in handle.record().steps.values()} == {"done"}
    assert handle.public_status() == ("cancelled" if operation == "cancel" else "confirmed")
    assert_in_step(app_engine, simulator, operation, appointment.id, data)
    word = {"create": "booked", "update": "updated", "cancel": "cancelled", "reschedule": "rescheduled"}[operation]
    assert audit(db, handle.id) == [f"appointment.{word}"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_workers_carry_it_out(worker, subject, simulator, app_engine, operation):
    appointment, data = subject(operation)
    handle = AppointmentSyncSaga.enqueue(appointment.id, operation, data, idempotency_key=f"{operation}-once")
    assert handle.wait(30) == "completed"
    again = AppointmentSyncSaga.enqueue(appointment.id, operation, data, idempotency_key=f"{operation}-once")
    assert (again.id, again.created) == (handle.id, False)
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


def test_it_starts_with_the_callers_own_transaction(worker, booked, app_engine):
    appointment = booked()
    with Session(app_engine.database.engine) as session, session.begin():
        handle = AppointmentSyncSaga.enqueue(appointment.id, "cancel", session=session)
    assert handle.wait(30) == "completed"


def test_what_cal_com_cannot_take_is_said_and_kept_here(booked, simulator, app_engine):
    appointment = booked()
    result = sync(appointment, "update", {"notes": "by the window", "guests": ["guest@secret.example"]})
    assert result["success"]
    assert result["not_synced"] == ["notes"]
    assert result["receipt"]["cannot_be_taken_back"] == ["guests"]
    assert "metadata" in result["receipt"]["fixed"]
    here = row(app_engine, appointment.id)
    assert (here.notes, here.guests) == ("by the window", ["guest@secret.example"])
    assert simulator.ledger()[0]["guests"] == ["guest@secret.example"]


def test_notes_alone_are_no_call(booked, simulator, app_engine):
    appointment = booked()
    before = simulator.counts()["calls"]
    assert sync(appointment, "update", {"notes": ""})["not_synced"] == ["notes"]
    assert simulator.counts()["calls"] == before
    assert row(app_engine, appointment.id).notes == ""


def test_guests_are_invited_once_each(booked, simulator, app_engine):
    appointment = booked()
    sync(appointment, "update", {"guests": ["one@secret.example"]})
    sync(appointment, "update", {"guests": ["ONE+again@secret.example", "two@secret.example"]})
    (there,) = simulator.ledger()
    assert there["guests"] == row(app_engine, appointment.id).guests == ["one@secret.example", "two@secret.example"]


@pytest.mark.parametrize(("operation", "again"), [("cancel", {}), ("reschedule", {"start": None})])
def test_asked_for_twice_it_is_done_once(booked, simulator, app_engine, operation, again):
    appointment = booked()
    data = dict.fromkeys(again, appointment.starts_at + LATER)
    sync(appointment, operation, data)
    calls = simulator.counts()["calls"]
    result = sync(appointment, operation, data)
    assert result["success"]
    assert simulator.counts()["calls"] == calls
    states = {name: str(step.state) for name, step in SagaHandle(result["saga_id"]).record().steps.items()}
    assert states.pop("lock_appointment") == "done"
    assert set(states.values()) == {"skipped"}
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


def test_cancelled_it_frees_its_slot(booked, booking):
    appointment = booked()
    slot = {
        "event_type_id": appointment.event_type_id,
        "start": appointment.starts_at,
        "staff_id": appointment.staff_id,
    }
    with pytest.raises(SagaException, match="SlotNotFree"):
        AppointmentCreationSaga.run(booking(**slot))
    sync(appointment, "cancel")
    assert AppointmentCreationSaga.run(booking(**slot)).status == "scheduled"


def test_where_cal_com_wants_confirmation_it_is_pending_until_then(booked, unbooked, simulator, app_engine):
    created = sync(unbooked(event_type_id=7), "create")
    assert (created["appointment"].status, created["appointment"].calcom_sync_status) == ("pending", "synced")
    assert SagaHandle(created["saga_id"]).public_status() == "confirming"
    moved = sync(created["appointment"], "reschedule", {"start": created["appointment"].starts_at + LATER})
    assert (moved["appointment"].status, moved["appointment"].starts_at) == (
        "pending",
        created["appointment"].starts_at + LATER,
    )
    old, new = simulator.ledger()
    assert (old["status"], new["status"]) == ("cancelled", "pending"), "the old one is gone all the same"
    assert moved["appointment"].calcom_v2_booking_id == new["uid"]


def test_a_round_robin_chooses_another_host_and_our_staff_member_follows(booked, booking, simulator, app_engine, staff):
    appointment = booked(event_type_id=8)
    start = appointment.starts_at + LATER
    simulator.book(event_type_id=appointment.staff_id, start=start.isoformat())
    moved = sync(appointment, "reschedule", {"start": start})["appointment"]
    (there,) = [one for one in simulator.standing() if one["uid"] == moved.calcom_v2_booking_id]
    assert moved.staff_id != appointment.staff_id
    assert moved.staff_id == staff[there["hosts"][0]["id"] - 1]


# --- refused ---


def test_the_slot_is_taken_at_cal_com(subject, simulator, app_engine):
    for operation, start in (("create", timedelta()), ("reschedule", LATER)):
        appointment, data = subject(operation)
        simulator.book(event_type_id=appointment.event_type_id, start=(appointment.starts_at + start).isoformat())
        result = sync(appointment, operation, data)
        assert_as_before(app_engine, appointment, why="SlotTaken", result=result)
    assert len(simulator.standing()) == 3


def test_too_many_guests_are_refused_and_the_location_stays(booked, simulator, app_engine):
    appointment = booked()
    for ten in range(2):
        sync(appointment, "update", {"guests": [f"guest{ten}{n}@secret.example" for n in range(10)]})
    data = {
        "guests": [f"more{n}@secret.example" for n in range(10)],
        "location": {"type": "link", "place": "https://x"},
    }
    result = sync(appointment, "update", data)
    assert_as_before(app_engine, appointment, why="RefusalInDoubt", result=result)
    assert simulator.ledger()[0]["location"] != "https://x"
    assert len(row(app_engine, appointment.id).guests) == 20


def test_a_location_that_is_refused_after_guests_were_invited_is_not_synced(booked, simulator, app_engine, monkeypatch):
    from sagajobs.calcom.models import Location

    monkeypatch.setattr(Location, "to_json", lambda self: {"type": "nowhere"})
    appointment = booked()
    data = {"guests": ["guest@secret.example"], "location": {"type": "link", "place": "https://x"}}
    result = sync(appointment, "update", data)
    assert (result["success"], result["not_synced"]) == (True, ["location"])
    here = row(app_engine, appointment.id)
    assert (here.guests, here.location) == (["guest@secret.example"], None)
    alone = sync(appointment, "update", {"location": data["location"]})
    assert (alone["success"], alone["will_retry"]) == (False, False)


def test_an_event_type_forbids_cancelling(booking, booked, simulator, app_engine):
    from sagajobs.calcom.simulator.world import default_world

    world = default_world().model_dump()
    world["event_types"] = [one | {"cancelling_disabled": True} for one in world["event_types"]]
    simulator.reset(world=world)
    appointment = booked()
    assert_as_before(app_engine, appointment, why="CalcomRefused", result=sync(appointment, "cancel"))
    simulator.reset()


def test_the_new_slot_is_taken_here(booked, simulator, app_engine, booking):
    appointment = booked()
    other = booked(start=appointment.starts_at + LATER)
    with app_engine.database.transaction() as connection:
        connection.execute(
            text("UPDATE appointments SET staff_id = :staff WHERE id = :id"),
            {"staff": appointment.staff_id, "id": other.id},
        )
    result = sync(appointment, "reschedule", {"start": other.starts_at + timedelta(minutes=15)})
    assert_as_before(app_engine, appointment, why="SlotNotFree", result=result)
    assert len(simulator.ledger()) == 2, "Cal.com was not even asked"


def test_while_it_moves_it_holds_both_slots_and_then_the_new_one(booked, booking, app_engine):
    appointment = booked()
    refused = []

    def book(start) -> str:
        slot = {"event_type_id": appointment.event_type_id, "start": start, "staff_id": appointment.staff_id}
        try:
            return AppointmentCreationSaga.run(booking(**slot)).status
        except SagaException as error:
            return reason(error)

    def seen(point, _saga_id, step):
        if (point, step) == (faultpoints.Point.AFTER_CLAIM, "call_calcom"):
            faultpoints.install(None)
            refused.extend(book(start) for start in (appointment.starts_at, appointment.starts_at + LATER))

    faultpoints.install(seen)
    assert sync(appointment, "reschedule", {"start": appointment.starts_at + LATER})["success"]
    assert refused == ["SlotNotFree", "SlotNotFree"]
    assert book(appointment.starts_at + LATER) == "SlotNotFree"
    assert book(appointment.starts_at) == "scheduled"


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
    simulator.switch(lag_ms=1500, lag_blinds_cancel=True)
    wait_for(lambda: seen_at_cal_com(appointment))
    made = moving.call("key")
    with pytest.raises(SlotTaken):
        moving.call("key")
    assert moving.find("key") is None
    wait_for(lambda: moving.find("key") == made)
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


# --- Cal.com is away ---


@pytest.mark.parametrize("operation", OPERATIONS)
def test_cal_com_fails_and_it_is_marked_and_made_up_for(subject, simulator, app_engine, db, operation):
    appointment, data = subject(operation)
    simulator.fault(FAULTS[operation], "http_503", "before", count=5)
    result = sync(appointment, operation, data)
    assert (result["success"], result["will_retry"]) == (False, True)
    handle = SagaHandle(result["saga_id"])
    here = row(app_engine, appointment.id)
    assert handle.status() == "running"
    assert (here.calcom_sync_status, str(here.sync_saga_id)) == ("error", handle.id)
    assert handle.public_status() == ("being cancelled" if operation == "cancel" else "confirming")
    assert heal(app_engine, handle.id).status() == "completed"
    assert handle.record().steps["call_calcom"].attempts == 6
    assert_in_step(app_engine, simulator, operation, appointment.id, data)
    assert audit(db, handle.id)[0] == "appointment.marked_for_retry"
    retries = db.execute(
        text("SELECT detail FROM saga_events WHERE saga_id = :id AND event = 'step_degraded'"), {"id": handle.id}
    ).one()
    assert (retries.detail["circuit"], retries.detail["kind"]) == ("closed", "ambiguous")


def test_while_cal_com_is_left_alone_no_attempt_is_spent(booked, simulator, app_engine):
    from sagajobs.root import circuit

    appointment = booked()
    simulator.fault("any", "http_503", "before", count=1000)
    while circuit().hold(CANCEL_BOOKING) == 0:
        circuit().failed(None)
    result = sync(appointment, "cancel", patience=0.1)
    assert (result["success"], result["will_retry"]) == (False, True)
    assert SagaHandle(result["saga_id"]).record().steps["call_calcom"].attempts == 0
    simulator.heal()
    circuit().close()
    assert heal(app_engine, result["saga_id"]).status() == "completed"
    assert SagaHandle(result["saga_id"]).record().steps["call_calcom"].attempts == 1


def test_it_is_of_no_use_any_more_and_is_given_up(booked, simulator, app_engine):
    appointment = booked()
    simulator.fault("reschedule", "http_503", "before", count=1000)
    result = sync(appointment, "reschedule", {"start": appointment.starts_at + LATER})
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET useful_until = saga_now() WHERE id = :id"), {"id": result["saga_id"]})
    assert heal(app_engine, result["saga_id"]).status() == "compensated"
    result = {"success": False, "will_retry": False, "error": "", "saga_id": result["saga_id"]}
    assert_as_before(app_engine, appointment, why="", result=result)


def test_cal_com_is_away_for_days_and_a_person_is_asked(booked, simulator, app_engine, db, monkeypatch):
    degraded = AppointmentSyncSaga.definition.step("call_calcom")
    monkeypatch.setattr(degraded, "degraded", replace(degraded.degraded, retry=ONCE))
    appointment = booked()
    simulator.fault("cancel", "http_503", "before", count=1000)
    with pytest.raises(SagaCompensationException):
        sync(appointment, "cancel")
    handle = only_sync(db)
    assert handle.public_status() == "needs us"
    assert row(app_engine, appointment.id).calcom_sync_status == "manual_review_required"
    assert audit(db, handle.id) == ["appointment.marked_for_retry", "appointment.review_required"]
    case = db.execute(text("SELECT reason, urgent_at FROM review_cases")).one()
    assert (case.reason, case.urgent_at) == ("tried again in vain", appointment.ends_at)
    assert row(app_engine, appointment.id).status == "scheduled", "as at Cal.com"


# --- done there, and our own tables refuse it ---


@pytest.mark.parametrize("operation", OPERATIONS)
def test_our_tables_refuse_it_and_the_sweep_makes_up_for_it(worker, subject, simulator, app_engine, operation):
    appointment, data = subject(operation)
    with refusing(app_engine, "appointments", "UPDATE OF calcom_v2_booking_id"):
        result = sync(appointment, operation, data)
        handle = SagaHandle(result["saga_id"])
        here = row(app_engine, appointment.id)
        assert (result["success"], result["will_retry"], handle.status()) == (False, True, "partial")
        assert (here.calcom_sync_status, str(here.sync_saga_id)) == ("error", handle.id)
        done_there = {"cancel": 0}.get(operation, 1)
        assert len(simulator.standing()) == done_there, "Cal.com is never undone"
    due(app_engine)
    assert handle.wait(30) == "completed"
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


def test_our_tables_refuse_it_for_days_and_a_person_is_asked(booked, simulator, app_engine, db, monkeypatch):
    step = AppointmentSyncSaga.definition.step("update_local")
    monkeypatch.setattr(step, "degraded", replace(step.degraded, retry=ONCE))
    appointment = booked()
    with (
        refusing(app_engine, "appointments", "UPDATE OF calcom_v2_booking_id"),
        pytest.raises(SagaCompensationException),
    ):
        sync(appointment, "cancel")
    handle = only_sync(db)
    assert handle.status() == "manual_review_required"
    here = row(app_engine, appointment.id)
    assert (here.status, here.calcom_sync_status) == ("scheduled", "manual_review_required")
    assert simulator.standing() == []


MARK_ONLY = "UPDATE OF calcom_v2_booking_id, sync_saga_id"


def test_not_even_the_mark_can_be_set_and_that_is_critical(booked, simulator, app_engine, db, caplog):
    """The seed's critical failure: done at Cal.com, refused here, and so is the mark for retry."""
    appointment = booked()
    with refusing(app_engine, "appointments", MARK_ONLY), pytest.raises(SagaCompensationException) as caught:
        sync(appointment, "cancel")
    handle = SagaHandle(caught.value.saga_id)
    assert (handle.status(), handle.public_status()) == ("manual_review_required", "needs us")
    assert caught.value.failed_step == "update_local"
    critical = {record.event for record in caplog.records if record.levelname == "CRITICAL" and record.name == "saga"}
    assert critical == {"compensation_failed", "review_required"}
    case = db.execute(text("SELECT reason, evidence FROM review_cases")).one()
    assert case.reason == "it could not even be marked for retry"
    assert "marking" in case.evidence["error"]
    assert row(app_engine, appointment.id).calcom_sync_status == "manual_review_required"


def test_a_person_is_asked_even_if_no_table_of_ours_can_show_it(booked, simulator, app_engine, db, caplog):
    from tests.support.refusing import accept, refuse

    appointment = booked()

    def full(point, _saga_id, step):
        if (point, step) == (faultpoints.Point.AFTER_CALL, "call_calcom"):
            faultpoints.install(None)
            refuse(app_engine, "appointments", "UPDATE")

    faultpoints.install(full)
    with pytest.raises(SagaCompensationException):
        sync(appointment, "cancel")
    accept(app_engine, "appointments")
    assert only_sync(db).status() == "manual_review_required"
    assert db.execute(text("SELECT count(*) FROM review_cases")).scalar_one() == 1
    assert row(app_engine, appointment.id).calcom_sync_status == "pending"
    assert any("do not show that a person is asked" in record.message for record in caplog.records)


# --- what makes no sense ---


@pytest.mark.parametrize(
    ("operation", "data", "problem"),
    [
        ("destroy", {}, "operation is one of create, update, cancel, reschedule"),
        ("update", {}, "names nothing to change"),
        ("update", {"title": "x"}, "update.data.title: Extra inputs are not permitted"),
        ("update", {"guests": ["nobody"]}, "update.data.guests.0: value is not a valid email address"),
        ("update", {"guests": [f"g{n}@secret.example" for n in range(11)]}, "at most 10 items"),
        ("update", {"location": {"type": "moon", "place": "x"}}, "update.data.location.type"),
        ("cancel", {"reason": ""}, "cancel.data.reason"),
        ("reschedule", {}, "reschedule.data.start: Field required"),
        ("reschedule", {"start": "2020-01-01T10:00:00Z"}, "data.start: lies in the past"),
        ("create", {"start": "2099-01-01T10:00:00Z"}, "create.data.start: Extra inputs are not permitted"),
        ("create", {}, "is booked at Cal.com already"),
    ],
)
def test_nonsense_is_refused_in_one_line(booked, db, operation, data, problem):
    appointment = booked()
    with pytest.raises(InvalidInput) as caught:
        AppointmentSyncSaga.enqueue(appointment.id, operation, data)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.problems
    assert "secret.example" not in str(caught.value)
    assert db.execute(text("SELECT count(*) FROM sagas WHERE name = 'appointment_sync'")).scalar_one() == 0


@pytest.mark.parametrize("operation", BOOKED)
def test_what_is_not_booked_cannot_be_changed(unbooked, operation):
    appointment = unbooked()
    data = {"update": {"notes": "x"}, "cancel": {}, "reschedule": {"start": appointment.starts_at + LATER}}[operation]
    with pytest.raises(InvalidInput, match="create it there first"):
        AppointmentSyncSaga.run(appointment.id, operation, data)


@pytest.mark.parametrize("number", [4711, 0, "1", None])
def test_an_appointment_that_does_not_exist(clean, number):
    with pytest.raises(InvalidInput, match="appointment_id"):
        AppointmentSyncSaga.run(number, "cancel")


def test_an_appointment_that_was_deleted_or_is_cancelled_or_over(booked, app_engine):
    states = {
        "deleted_at = saga_now(), calcom_sync_status = 'cancelled'": "there is no appointment",
        "status = 'cancelled'": "is cancelled",
        "status = 'completed'": "is completed",
        "starts_at = saga_now() - interval '2 hours', ends_at = saga_now() - interval '1 hour'": "is over",
    }
    for state, problem in states.items():
        appointment = booked()
        with app_engine.database.transaction() as connection:
            connection.execute(text(f"UPDATE appointments SET {state} WHERE id = :id"), {"id": appointment.id})
        with pytest.raises(InvalidInput, match=problem):
            AppointmentSyncSaga.run(appointment.id, "update", {"notes": "x"})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("starts_at = saga_now() - interval '1 hour'", "starts in the past"),
        ("event_type_id = 4711", "Cal.com has no event type 4711"),
        ("ends_at = starts_at + interval '7 min'", "takes 30 minutes"),
    ],
)
def test_a_row_that_makes_no_booking_is_refused(unbooked, app_engine, change, problem):
    appointment = unbooked()
    with app_engine.database.transaction() as connection:
        connection.execute(text(f"UPDATE appointments SET {change} WHERE id = :id"), {"id": appointment.id})
    with pytest.raises(InvalidInput, match=problem):
        AppointmentSyncSaga.run(appointment.id, "create")


def test_a_customer_whom_cal_com_would_not_take_is_refused_beforehand(unbooked, app_engine):
    appointment = unbooked()
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE customers SET phone = '030 4711', time_zone = 'Mars'"))
    with pytest.raises(InvalidInput) as caught:
        AppointmentSyncSaga.run(appointment.id, "create")
    assert [problem.split(": ")[2] for problem in caught.value.problems] == ["phone", "time_zone"]
    assert "4711" not in str(caught.value)


def test_times_are_the_databases_and_zones_do_not_matter(booked):
    appointment = booked()
    start = (appointment.starts_at + LATER).astimezone(datetime.now(UTC).astimezone().tzinfo)
    assert sync(appointment, "reschedule", {"start": start})["appointment"].starts_at == start


# --- what web applications read ---


def test_what_web_applications_read_is_new_at_once(booked):
    from sagajobs import find_appointment

    appointment = booked()
    assert find_appointment(appointment.id) == appointment.summary, "read, and kept"
    moved = sync(appointment, "reschedule", {"start": appointment.starts_at + LATER})
    assert find_appointment(appointment.id) == moved["appointment"].summary
    steps = SagaHandle(moved["saga_id"]).record().results
    assert steps["invalidate_cache"] == {"appointment_id": appointment.id, "forgotten": True}


def test_a_cache_that_is_away_fails_nothing(booked, simulator, app_engine, monkeypatch):
    away = AppointmentCache(lambda: "redis://127.0.0.1:1/0", app_engine.database)
    monkeypatch.setattr(AppointmentSyncSaga, "services", replace(AppointmentSyncSaga.services, cache=away))
    appointment = booked()
    result = sync(appointment, "cancel")
    assert result["success"]
    assert SagaHandle(result["saga_id"]).record().steps["invalidate_cache"].state == "failed"
    assert_in_step(app_engine, simulator, "cancel", appointment.id, {})
