"""From a webhook to the appointment: one saga however often it comes, whoever dies and whatever is lost on the way."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentFollowSaga, AppointmentSyncSaga, CompositeBookingSaga
from sagajobs.booking.inbound import Taken, take
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.calcom.webhooks import Webhook
from sagajobs.saga import faultpoints
from sagajobs.saga.states import UNFINISHED
from sagajobs.saga.sweep import recover
from sagajobs.testing.broker import HandBroker
from sagajobs.testing.waiting import wait_for
from tests.support.following import audit, later, latest, move
from tests.support.sagas import record
from tests.support.tables import change

pytestmark = pytest.mark.usefixtures("impatient_follow")


@pytest.fixture
def booked(unstaffed):
    return unstaffed


def webhook(trigger: str, uid: str, created: str = "2030-01-01T00:00:00.000Z", **more) -> Webhook:
    return Webhook.model_validate({"trigger": trigger, "uid": uid, "createdAt": created, **more})


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
    """Booked, and the answer lost: the probe would come later."""
    simulator.fault("create", "timeout", "after", count=1)
    handle = record(AppointmentCreationSaga, booking())
    engine = AppointmentCreationSaga.engine
    engine.drive(AppointmentCreationSaga, handle.id, patience=0)
    assert handle.record().steps["book_calcom"].state == "unknown"
    change(engine, "UPDATE sagas SET next_at = next_at + interval '1 h'")
    change(engine, "UPDATE saga_steps SET due_at = due_at + interval '1 h'")
    assert not due(db, handle)
    (there,) = wait_for(simulator.ledger)
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
