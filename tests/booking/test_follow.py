"""`AppointmentFollowSaga` against the simulator: what is done at Cal.com reaches our appointment, once and in order."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from sagajobs import (
    AppointmentCreationSaga,
    AppointmentFollowSaga,
    AppointmentSyncSaga,
    CompositeBookingSaga,
    InvalidInput,
    SagaException,
    SagaHandle,
)
from sagajobs.booking.appointment import Appointment
from sagajobs.booking.inbound import Taken, take
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.calcom.webhooks import Webhook
from sagajobs.saga import faultpoints
from sagajobs.saga.states import UNFINISHED
from sagajobs.saga.sweep import recover
from tests.support.broker import HandBroker
from tests.support.sagas import record

CONFIRMED_FIRST = 7
"""The event type whose bookings wait for confirmation."""


ROUND_ROBIN = 8
"""The event type that whoever is free gets."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    for name in ("see_change", "read_booking"):
        step = AppointmentFollowSaga.definition.step(name)
        monkeypatch.setattr(step, "retry", replace(step.retry, base=0.05, max_delay=0.1))
    follow = AppointmentFollowSaga.definition.step("follow")
    monkeypatch.setattr(follow, "degraded", replace(follow.degraded, retry=replace(follow.degraded.retry, base=0.05)))


@pytest.fixture
def booked(booking):
    """Book an appointment."""

    def book(**changes) -> Appointment:
        return AppointmentCreationSaga.run(booking(**changes))

    return book


@pytest.fixture
def row(db):
    """Read an appointment as the database has it."""

    def read(appointment_id: int = 1):
        return db.execute(text("SELECT * FROM appointments WHERE id = :id"), {"id": appointment_id}).one()

    return read


def webhook(trigger: str, uid: str, created: str = "2030-01-01T00:00:00.000Z", **more) -> Webhook:
    return Webhook.model_validate({"trigger": trigger, "uid": uid, "createdAt": created, **more})


def follow(appointment: Appointment, uid: str | None = None, trigger: str | None = None) -> dict:
    hint = {"appointment_id": appointment.id, "booking_uid": uid or appointment.calcom_v2_booking_id, "seen": "now"}
    return AppointmentFollowSaga.run(hint | {"trigger": trigger})


def latest(db) -> SagaHandle:
    row = db.execute(text("SELECT id FROM sagas WHERE name = 'appointment_follow' ORDER BY created_at DESC LIMIT 1"))
    return SagaHandle(str(row.scalar_one()))


def audit(db) -> list:
    return db.execute(text("SELECT actor, action, detail FROM audit_log ORDER BY id")).all()


def later(appointment: Appointment, **by: float) -> datetime:
    return appointment.starts_at + timedelta(**(by or {"hours": 5}))


def move(simulator, appointment: Appointment, **by: float) -> str:
    """Move a booking as a host does; returns its new uid."""
    return simulator.host("move", appointment.calcom_v2_booking_id, start=later(appointment, **by).isoformat())["uid"]


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
    assert follow(made) == {"changed": False}, "without a word that it was reassigned ours is left as it is"
    assert follow(made, trigger="BOOKING_REASSIGNED") == {"changed": True}
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


@pytest.mark.parametrize("fault", ["http_503", "drop", "rate_limit"])
def test_cal_com_does_not_answer_for_a_moment(booked, simulator, row, fault):
    made = booked()
    simulator.host("cancel", made.calcom_v2_booking_id)
    simulator.fault("get", fault, count=2)
    assert follow(made) == {"changed": True}


def test_cal_com_does_not_answer_for_long_and_the_appointment_is_let_go(booked, simulator, row, db):
    """Also where such tries do not count: the appointment is locked meanwhile."""
    made = booked()
    simulator.host("cancel", made.calcom_v2_booking_id)
    simulator.fault("get", "rate_limit", count=100)
    with pytest.raises(SagaException):
        follow(made)
    assert row().status == "scheduled"
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0
    simulator.heal()
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


def test_a_move_onto_another_appointment_that_stays_is_a_persons_question(booked, simulator, row, staff, db):
    first = booked(event_type_id=1)
    second = booked(event_type_id=2, start=later(first))
    with AppointmentFollowSaga.engine.database.transaction() as connection:
        connection.execute(text("UPDATE appointments SET staff_id = :id WHERE id = 2"), {"id": staff[0]})
    uid = move(simulator, first)
    with pytest.raises(SagaException, match="manual review"):
        follow(first, uid, "BOOKING_RESCHEDULED")
    assert row(1).calcom_sync_status == "manual_review_required"
    assert row(1).calcom_v2_booking_id == first.calcom_v2_booking_id
    case = db.execute(text("SELECT * FROM review_cases")).one()
    said = case.evidence["error"]["message"]
    assert f"appointment 1 was moved at Cal.com to {later(first).isoformat()}" in said
    assert f"has appointment {second.id} in our books" in said
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


# --- from the webhook on ---


def test_a_webhook_starts_one_saga_however_often_it_comes(booked, simulator, db, row):
    made = booked()
    simulator.host("cancel", made.calcom_v2_booking_id)
    told = webhook("BOOKING_CANCELLED", made.calcom_v2_booking_id)
    assert [take(told) for _ in range(3)] == [Taken.FOLLOWED, Taken.KNOWN, Taken.KNOWN]
    AppointmentFollowSaga.engine.drive(AppointmentFollowSaga, latest(db).id)
    assert row().status == "cancelled"
    assert take(told) is Taken.KNOWN
    assert take(webhook("BOOKING_CANCELLED", made.calcom_v2_booking_id, "2030-01-02T00:00:00Z")) is Taken.KNOWN
    assert db.execute(text("SELECT count(*) FROM sagas WHERE name = 'appointment_follow'")).scalar_one() == 1


def test_a_cancel_that_is_told_while_the_move_before_it_is_followed_is_not_lost(booked, simulator, row, db, app_engine):
    """It does not say what its booking was moved from, and the move's own look comes before the cancel shows."""
    made = booked()
    uid = move(simulator, made)
    assert take(webhook("BOOKING_RESCHEDULED", uid, rescheduleUid=made.calcom_v2_booking_id)) is Taken.FOLLOWED
    moving = latest(db)
    assert take(webhook("BOOKING_CANCELLED", uid)) is Taken.FOLLOWED
    cancelling = latest(db)
    app_engine.drive(AppointmentFollowSaga, moving.id)
    assert row().status == "rescheduled"
    simulator.host("cancel", uid)
    app_engine.drive(AppointmentFollowSaga, cancelling.id)
    assert row().status == "cancelled"


def test_a_webhook_about_nothing_of_ours_is_ignored(booked, db):
    booked()
    assert take(webhook("BOOKING_CANCELLED", "elsewhere")) is Taken.IGNORED
    for key in ("", "nonsense", "nonsense/book_calcom", "00000000-0000-0000-0000-000000000000/book_calcom"):
        assert take(webhook("BOOKING_CREATED", "elsewhere", metadata={METADATA_KEY: key})) is Taken.IGNORED
    assert db.execute(text("SELECT count(*) FROM sagas WHERE name = 'appointment_follow'")).scalar_one() == 0


def test_the_echo_of_our_own_booking_costs_nothing(booked, simulator, db):
    made = booked()
    (there,) = simulator.ledger()
    assert take(webhook("BOOKING_CREATED", there["uid"], metadata=there["metadata"])) is Taken.KNOWN
    assert made.calcom_v2_booking_id == there["uid"]
    assert db.execute(text("SELECT count(*) FROM sagas")).scalar_one() == 1


def test_a_move_whose_forerunner_was_lost_finds_the_appointment_by_our_key(booked, simulator, db, row):
    """Moved twice, and only the second webhook comes: neither of its uids is the appointment's."""
    made = booked()
    between = move(simulator, made, hours=3)
    last = simulator.host("move", between, start=later(made).isoformat())
    told = webhook("BOOKING_RESCHEDULED", last["uid"], rescheduleUid=between, metadata=last["metadata"])
    assert take(told) is Taken.FOLLOWED
    AppointmentFollowSaga.engine.drive(AppointmentFollowSaga, latest(db).id)
    assert (row().calcom_v2_booking_id, row().starts_at) == (last["uid"], later(made))


def test_an_appointment_that_was_booked_by_a_later_saga_is_found_by_its_key(booked, booking, simulator, db, row):
    """Its booking carries the key of the saga that synced it, not of the one that made it."""
    first = booked()
    with AppointmentFollowSaga.engine.database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO appointments (customer_id, event_type_id, starts_at, ends_at) "
                "VALUES (1, 2, :start, CAST(:start AS timestamptz) + interval '30 min')"
            ),
            {"start": first.starts_at},
        )
    second = AppointmentSyncSaga.run(2, "create")["appointment"]
    last = simulator.host("move", move(simulator, second, hours=3), start=later(second).isoformat())
    told = webhook("BOOKING_RESCHEDULED", last["uid"], rescheduleUid="unheard-of", metadata=last["metadata"])
    assert take(told) is Taken.FOLLOWED
    AppointmentFollowSaga.engine.drive(AppointmentFollowSaga, latest(db).id)
    assert (row(2).calcom_v2_booking_id, row(1).calcom_v2_booking_id) == (last["uid"], first.calcom_v2_booking_id)


def test_a_segment_of_a_composite_booking_is_found_by_its_number(booking, simulator, db, row):
    first, second = (booking(event_type_id=number) for number in (1, 2))
    customer = first.pop("customer")
    del second["customer"]
    made = CompositeBookingSaga.run(customer, [first, second]).appointments[1]
    last = simulator.host("move", move(simulator, made, hours=3), start=later(made).isoformat())
    told = webhook("BOOKING_RESCHEDULED", last["uid"], rescheduleUid="unheard-of", metadata=last["metadata"])
    assert take(told) is Taken.FOLLOWED
    AppointmentFollowSaga.engine.drive(AppointmentFollowSaga, latest(db).id)
    assert row(made.id).calcom_v2_booking_id == last["uid"]
    assert db.execute(text("SELECT count(*) FROM appointments WHERE status = 'rescheduled'")).scalar_one() == 1


def test_a_webhook_about_a_sync_under_way_waits_for_it_and_finds_nothing_to_do(booked, simulator, db, row, monkeypatch):
    """It comes before the answer to our own move, as Cal.com tells first and answers then."""
    made, told = booked(), []

    def during(point, saga_id, step):
        if point is faultpoints.Point.AFTER_CALL and step == "call_calcom":
            (there,) = simulator.standing()
            told.append(take(webhook("BOOKING_RESCHEDULED", there["uid"], rescheduleUid=made.calcom_v2_booking_id)))

    monkeypatch.setattr(faultpoints, "_hook", during)
    AppointmentSyncSaga.run(made.id, "reschedule", {"start": later(made)})
    assert told == [Taken.FOLLOWED]
    before = row()
    AppointmentFollowSaga.engine.drive(AppointmentFollowSaga, latest(db).id)
    assert latest(db).result() == {"changed": False}
    assert row() == before
    assert before.status == "rescheduled"


def test_a_webhook_tells_a_saga_in_doubt_to_look_now(booking, simulator, db, monkeypatch):
    """Booked, and the answer lost: the probe would come after two seconds."""
    simulator.fault("create", "timeout", "after", count=1)
    handle = record(AppointmentCreationSaga, booking())
    engine = AppointmentCreationSaga.engine
    engine.drive(AppointmentCreationSaga, handle.id, patience=0)
    assert handle.record().steps["book_calcom"].state == "unknown"
    assert not due(db, handle)
    (there,) = simulator.ledger()
    told = webhook("BOOKING_CREATED", there["uid"], metadata=there["metadata"])
    assert take(told) is Taken.HINTED
    assert due(db, handle)
    engine.drive(AppointmentCreationSaga, handle.id, patience=0)
    assert handle.status() == "completed"
    assert handle.result().calcom_v2_booking_id == there["uid"]
    assert take(told) is Taken.KNOWN


def due(db, handle) -> bool:
    return db.execute(text("SELECT next_at <= saga_now() FROM sagas WHERE id = :id"), {"id": handle.id}).scalar_one()


def test_a_webhook_about_a_booking_whose_saga_knows_already_changes_nothing(booking, simulator, db, monkeypatch):
    """It comes before the answer to our own call: the step is claimed, and not in doubt."""
    told = []

    def during(point, saga_id, step):
        if point is faultpoints.Point.AFTER_CALL and step == "book_calcom":
            (there,) = simulator.ledger()
            told.append(take(webhook("BOOKING_CREATED", there["uid"], metadata=there["metadata"])))

    monkeypatch.setattr(faultpoints, "_hook", during)
    made = AppointmentCreationSaga.run(booking())
    assert told == [Taken.IGNORED]
    assert made.status == "scheduled"


def test_a_saga_of_ours_at_work_is_waited_for(booked, simulator, db, row):
    """What it does at Cal.com looks like news in the middle; afterwards everything is as it was left."""
    made = booked()
    with AppointmentFollowSaga.engine.database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO sagas (id, name, version, definition, state, input) VALUES "
                "('00000000-0000-0000-0000-000000000001', 'n', 1, 'd', 'manual_review_required', '{}');"
                "INSERT INTO saga_locks (resource, saga_id, held) VALUES "
                "('appointment:1', '00000000-0000-0000-0000-000000000001', true)"
            )
        )
    simulator.host("cancel", made.calcom_v2_booking_id)
    assert take(webhook("BOOKING_CANCELLED", made.calcom_v2_booking_id)) is Taken.FOLLOWED
    handle = latest(db)
    engine = AppointmentFollowSaga.engine
    engine.drive(AppointmentFollowSaga, handle.id, patience=0.2)
    assert (handle.status(), row().status) == ("pending", "scheduled")
    with engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET ended_at = saga_now() WHERE name = 'n'"))
    engine.drive(AppointmentFollowSaga, handle.id)
    assert handle.result() == {"changed": True}


# --- dying and doubled on the way ---


@pytest.fixture
def broker(app_engine):
    """Deliver by hand; afterwards the application's own publisher is back."""
    own = app_engine.publisher
    app_engine.publisher = HandBroker(app_engine)
    yield app_engine.publisher
    app_engine.publisher = own


def let_time_pass(engine) -> None:
    with engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now() WHERE next_at IS NOT NULL"))
        connection.execute(text("UPDATE saga_steps SET lease_until = NULL, due_at = NULL"))


def settle(engine, broker, handle) -> None:
    """Deliver and sweep until the saga is at rest."""
    for _ in range(20):
        broker.drain()
        if handle.status() not in UNFINISHED:
            return
        let_time_pass(engine)
        recover(engine)
    raise AssertionError(f"{handle.id} is still {handle.status()}")


@pytest.mark.parametrize("dies_at", list(faultpoints.Point))
@pytest.mark.parametrize("step", ["find_appointment", "see_change", "follow", "invalidate_cache"])
def test_a_worker_dies_on_the_way(booked, simulator, row, db, app_engine, broker, dies_at, step):
    made = booked()
    uid = move(simulator, made)
    told = webhook("BOOKING_RESCHEDULED", uid, rescheduleUid=made.calcom_v2_booking_id)
    assert take(told) is Taken.FOLLOWED
    handle = latest(db)
    while broker.messages[0].step != step:
        broker.deliver(0)
    broker.deliver(0, dies_at=dies_at)
    assert broker.deaths == 1
    settle(app_engine, broker, handle)
    assert handle.result() == {"changed": True}
    assert (row().calcom_v2_booking_id, row().status) == (uid, "rescheduled")
    assert [entry.action for entry in audit(db)].count("appointment.followed") == 1


def test_every_message_comes_twice_and_the_first_is_lost(booked, simulator, row, db, app_engine, broker):
    made = booked()
    simulator.host("cancel", made.calcom_v2_booking_id)
    take(webhook("BOOKING_CANCELLED", made.calcom_v2_booking_id))
    handle = latest(db)
    broker.lose(0)
    let_time_pass(app_engine)
    recover(app_engine)
    while broker.messages:
        broker.double(0)
        broker.deliver(0)
        broker.deliver(len(broker.messages) - 1)
    settle(app_engine, broker, handle)
    assert row().status == "cancelled"
    assert [entry.action for entry in audit(db)].count("appointment.followed") == 1
