"""`AppointmentSyncSaga` where everybody answers: each operation, done or refused, and the end here and at Cal.com."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, SagaException, SagaHandle
from sagajobs.booking.cache import AppointmentCache
from sagajobs.saga import faultpoints
from tests.support.sagas import reason
from tests.support.syncing import LATER, OPERATIONS, assert_as_before, assert_in_step, audit, row, sync

pytestmark = pytest.mark.usefixtures("simulator", "impatient_sync")


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
    final = {"cancel": ["cancellation", "mails"], "reschedule": ["mails", "uid"]}.get(operation, ["mails"])
    assert result["receipt"]["cannot_be_taken_back"] == final
    word = {"create": "booked", "update": "updated", "cancel": "cancelled", "reschedule": "rescheduled"}[operation]
    assert audit(db, handle.id) == [f"appointment.{word}"]


def test_what_cal_com_cannot_take_is_said_and_kept_here(booked, simulator, app_engine):
    appointment = booked()
    result = sync(appointment, "update", {"notes": "by the window", "guests": ["guest@secret.example"]})
    assert result["success"]
    assert result["not_synced"] == ["notes"]
    assert result["receipt"]["cannot_be_taken_back"] == ["guests", "mails"]
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


def test_times_are_the_databases_and_zones_do_not_matter(booked):
    appointment = booked()
    start = (appointment.starts_at + LATER).astimezone(datetime.now(UTC).astimezone().tzinfo)
    assert sync(appointment, "reschedule", {"start": start})["appointment"].starts_at == start


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

    with faultpoints.installed(seen):
        assert sync(appointment, "reschedule", {"start": appointment.starts_at + LATER})["success"]
    assert refused == ["SlotNotFree", "SlotNotFree"]
    assert book(appointment.starts_at + LATER) == "SlotNotFree"
    assert book(appointment.starts_at) == "scheduled"


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


# --- by workers; last, as they would take over what this process is slow with ---


@pytest.mark.parametrize("operation", OPERATIONS)
def test_workers_carry_it_out(worker, subject, simulator, app_engine, operation):
    appointment, data = subject(operation)
    handle = AppointmentSyncSaga.enqueue(appointment.id, operation, data, idempotency_key=f"{operation}-once")
    assert handle.wait(90) == "completed"
    again = AppointmentSyncSaga.enqueue(appointment.id, operation, data, idempotency_key=f"{operation}-once")
    assert (again.id, again.created) == (handle.id, False)
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


def test_it_starts_with_the_callers_own_transaction(worker, booked, app_engine):
    appointment = booked()
    with Session(app_engine.database.engine) as session, session.begin():
        handle = AppointmentSyncSaga.enqueue(appointment.id, "cancel", session=session)
    assert handle.wait(90) == "completed"
