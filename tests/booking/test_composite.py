"""`CompositeBookingSaga`: each way it can go, with the exact end of saga, appointments and Cal.com's ledger."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs import CompositeBookingSaga, InvalidInput, SagaCompensationException, SagaException, SagaHandle
from sagajobs.booking.compensation import CalcomCompensationService, DatabaseCompensationService
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.calcom.errors import CalcomUnavailable
from sagajobs.desk.documents import saga_document
from sagajobs.errors import EffectGone, PermanentError
from sagajobs.saga import faultpoints
from sagajobs.saga.faultpoints import Point
from tests.support.fixtures import Order
from tests.support.sagas import reason, states

BOOK = next(step for step in CompositeBookingSaga.definition.steps if step.name == "book_segment")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Look for a booking less patiently than in earnest, and wait less."""
    monkeypatch.setattr(BOOK, "finder", replace(BOOK.finder, over=0.2))
    monkeypatch.setattr(BOOK, "retry", replace(BOOK.retry, base=0.05, max_delay=0.2))
    monkeypatch.setattr(BOOK.undo, "retry", replace(BOOK.undo.retry, base=0.05, max_delay=0.2))


def appointments(db) -> list:
    return db.execute(text("SELECT * FROM appointments ORDER BY segment")).all()


def saga(db) -> SagaHandle:
    return SagaHandle(str(db.execute(text("SELECT id FROM sagas ORDER BY created_at DESC LIMIT 1")).scalar_one()))


def assert_none(db, simulator) -> None:
    """Assert that nothing is left of a composite booking but its traces."""
    handle = saga(db)
    assert (handle.status(), handle.public_status()) == ("compensated", "cancelled")
    assert simulator.standing() == []
    rows = appointments(db)
    assert {(row.status, row.calcom_sync_status) for row in rows} == {("failed", "cancelled")}
    assert all(row.deleted_at for row in rows)
    assert db.execute(text("SELECT count(*) FROM composite_bookings WHERE deleted_at IS NULL")).scalar_one() == 0
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0


# --- all of them ---


@pytest.mark.parametrize("segments", [2, 10])
def test_all_segments_are_booked_in_their_order(order, db, simulator, staff, segments):
    wanted = order(segments)
    made = CompositeBookingSaga.run(*wanted)
    handle = saga(db)
    assert (handle.status(), handle.public_status()) == ("completed", "confirmed")
    assert handle.result() == made
    assert [(one.event_type_id, one.starts_at) for one in made.appointments] == [
        (segment["event_type_id"], segment["start"]) for segment in wanted.segments
    ]
    assert {(one.status, one.calcom_sync_status) for one in made.appointments} == {("scheduled", "synced")}
    assert [one.staff_id for one in made.appointments] == [staff[s["event_type_id"] - 1] for s in wanted.segments]
    keys = {booked["uid"]: booked["metadata"][METADATA_KEY] for booked in simulator.ledger()}
    assert [keys[one.calcom_v2_booking_id] for one in made.appointments] == [
        f"{handle.id}/book_segment[{number}]" for number in range(segments)
    ]
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0


def test_the_calls_to_cal_com_are_made_at_the_same_time(order, db, simulator):
    """Each waits just before its call until all are there: one after the other, none would ever come out."""
    all_in = threading.Barrier(4)

    def meet(point, _saga_id, step) -> None:
        if point is Point.AFTER_CLAIM and step.startswith("book_segment"):
            all_in.wait(60)

    with faultpoints.installed(meet):
        made = CompositeBookingSaga.run(*order(4))
    assert len(made.appointments) == len(simulator.standing()) == 4


def test_one_that_cal_com_wants_confirmed_leaves_the_whole_confirming(order, db):
    made = CompositeBookingSaga.run(*order(2).changed(1, event_type_id=7))
    assert [one.status for one in made.appointments] == ["scheduled", "pending"]
    assert saga(db).public_status() == "confirming"


@pytest.mark.parametrize("kind", ["timeout", "http_500", "drop"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_that_is_lost_books_each_segment_once(order, db, simulator, kind, when):
    simulator.fault("create", kind, when, count=2)
    made = CompositeBookingSaga.run(*order(3))
    assert len(simulator.ledger()) == 3
    assert {one.calcom_v2_booking_id for one in made.appointments} == {one["uid"] for one in simulator.standing()}


def test_hosts_who_are_one_person_here_cannot_be_assigned_and_all_is_booked_nevertheless(order, db, staff, app_engine):
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM staff WHERE id = 2"))
        connection.execute(text("UPDATE staff SET email = 'host2@example.com' WHERE id = 1"))
    made = CompositeBookingSaga.run(*order(2))  # event types 1 and 2, at the same time
    assert [one.staff_id for one in made.appointments] == [None, None]
    assert (saga(db).status(), states(saga(db))["assign_staff"]) == ("completed", "failed")


# --- or none ---


def test_the_slot_of_one_is_taken_at_cal_com(order, db, simulator):
    wanted = order(3)
    taken = wanted.segments[1]
    other = simulator.book(event_type_id=taken["event_type_id"], start=taken["start"].isoformat())
    with pytest.raises(SagaException) as caught:
        CompositeBookingSaga.run(*wanted)
    assert caught.value.failed_step == "book_segment[1]"
    assert reason(caught.value) == "SlotTaken"
    assert [one["uid"] for one in simulator.standing()] == [other["uid"]]
    assert {row.status for row in appointments(db)} == {"failed"}
    assert saga(db).status() == "compensated"


def test_the_slot_of_one_is_taken_here(order, booking, db, simulator, staff):
    first, wanted = order(2), order(3)
    CompositeBookingSaga.run(*first.changed(0, staff_id=staff[0]))  # of event type 1, so that he stays its host
    wanted = wanted.changed(2, staff_id=staff[0], start=first.segments[0]["start"])
    ledger = len(simulator.ledger())
    with pytest.raises(SagaException) as caught:
        CompositeBookingSaga.run(*wanted)
    assert caught.value.failed_step == "create_appointments"
    assert reason(caught.value) == "SlotNotFree"
    assert len(simulator.ledger()) == ledger, "Cal.com was not even asked"
    assert db.execute(text("SELECT count(*) FROM composite_bookings")).scalar_one() == 1, "nothing stays of the second"


def test_cal_com_is_down_for_one_of_them_for_good(order, db, simulator):
    simulator.fault("create", "http_503", "before", count=BOOK.retry.max_attempts * 3)
    with pytest.raises(SagaException):
        CompositeBookingSaga.run(*order(3))
    assert_none(db, simulator)


def test_a_late_failure_takes_all_of_them_back(order, db, simulator, app_engine, monkeypatch):
    _required_and_failing(monkeypatch)
    with pytest.raises(SagaException):
        CompositeBookingSaga.run(*order(3))
    assert [booked["status"] for booked in simulator.ledger()] == ["cancelled"] * 3
    assert_none(db, simulator)
    masked, whole = (str(saga_document(db, app_engine, saga(db).id, private=private)) for private in (False, True))
    assert ("@" in whole, "@" in masked) == (True, False), "of neither customer nor host, in results or receipts"
    assert "'status_read_back': 'cancelled'" in masked
    actions = [row.action for row in db.execute(text("SELECT action FROM audit_log ORDER BY id"))]
    assert sorted(actions) == sorted(
        ["appointment.booked"] * 3
        + ["appointment.booking_cancelled"] * 3
        + ["appointment.deleted"] * 3
        + ["composite_booking.deleted"]
    )


def test_one_that_cannot_be_cancelled_stops_the_undo_and_asks_a_person(order, db, simulator, monkeypatch):
    """Critical: its booking stands, so no appointment may be deleted below it."""
    _required_and_failing(monkeypatch)
    monkeypatch.setattr(BOOK.undo, "retry", replace(BOOK.undo.retry, max_attempts=2))
    simulator.fault("cancel", "http_503", "before", count=2)
    with pytest.raises(SagaCompensationException) as caught:
        CompositeBookingSaga.run(*order(2))
    assert len(caught.value.failed_compensations) == 1
    handle = saga(db)
    assert (handle.status(), handle.public_status()) == ("manual_review_required", "needs us")
    assert all(row.deleted_at is None for row in appointments(db))
    assert {row.calcom_sync_status for row in appointments(db)} == {"manual_review_required"}
    assert len(simulator.standing()) == 2
    urgent = db.execute(text("SELECT urgent_at FROM review_cases")).scalar_one()
    assert urgent == min(row.starts_at for row in appointments(db))
    locks = "SELECT count(*) FROM saga_locks WHERE held"
    assert db.execute(text(locks)).scalar_one() == 2, "nobody else may work on them meanwhile"


def _required_and_failing(monkeypatch) -> None:
    def fail(_saga, _db):
        raise ValueError("staff")

    last = CompositeBookingSaga.definition.step("assign_staff")
    monkeypatch.setattr(last, "optional", False)
    monkeypatch.setattr(last, "method", fail)


# --- what is refused ---


def test_what_makes_no_sense_is_refused_and_nothing_is_written(order, db, simulator, staff):
    wanted = order(2)
    clash = wanted.changed(0, staff_id=staff[0]).changed(1, staff_id=staff[0], start=wanted.segments[0]["start"])
    refused = {
        "at least 2": Order(wanted.customer, wanted.segments[:1]),
        "at most 10": Order(wanted.customer, wanted.segments * 6),
        "segments.1: staff member 1 is busy with segment 0": clash,
        "segments.1.start: lies in the past": wanted.changed(1, start=wanted.segments[1]["start"] - timedelta(days=99)),
        "segments.0.event_type_id: Cal.com has no event type 99": wanted.changed(0, event_type_id=99),
        "segments.1.duration_minutes: event type": wanted.changed(1, duration_minutes=31),
        "segments.0.staff_id: there is no staff member 77": wanted.changed(0, staff_id=77),
    }
    for says, (customer, segments) in refused.items():
        with pytest.raises(InvalidInput, match=says) as caught:
            CompositeBookingSaga.run(customer, segments)
        assert "\n" not in str(caught.value)
        assert wanted.customer["email"] not in str(caught.value)
    assert db.execute(text("SELECT count(*) FROM sagas")).scalar_one() == 0
    assert simulator.ledger() == []


def test_models_do_as_well_as_mappings(order, simulator):
    from sagajobs import Customer, Slot

    wanted = order(2)
    made = CompositeBookingSaga.run(Customer(**wanted.customer), [Slot(**segment) for segment in wanted.segments])
    assert len(made.appointments) == 2


# --- at the same time ---


def test_orders_for_the_same_staff_in_opposite_order_do_not_deadlock(order, db, simulator, staff):
    before = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    deadlocks = db.execute(text(before)).scalar_one()
    orders = []
    for n in range(12):
        wanted = order(2)
        ways = (0, 1) if n % 2 else (1, 0)
        for number, who in enumerate(ways):
            start = wanted.segments[0]["start"] + timedelta(days=1, hours=n)
            wanted = wanted.changed(number, staff_id=staff[who], event_type_id=who + 1, start=start)
        orders.append(wanted)
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda one: CompositeBookingSaga.run(*one), orders))
    assert sum(len(one.appointments) for one in made) == len(simulator.standing()) == 24
    db.rollback()  # else the figure is the one that was read before
    assert db.execute(text(before)).scalar_one() == deadlocks


# --- the compensation services ---


@pytest.fixture
def calcom(app_engine) -> CalcomCompensationService:
    return CalcomCompensationService(CompositeBookingSaga.services.calcom)


def test_several_bookings_are_cancelled_and_again(order, calcom, simulator):
    uids = [one.calcom_v2_booking_id for one in CompositeBookingSaga.run(*order(3)).appointments]
    for _ in range(2):
        receipts = calcom.cancel_composite_bookings(uids, "No longer needed.")
        assert [receipts[uid]["status_read_back"] for uid in uids] == ["cancelled"] * 3
    assert simulator.standing() == []


def test_one_that_fails_does_not_keep_the_others(order, calcom, simulator):
    uids = [one.calcom_v2_booking_id for one in CompositeBookingSaga.run(*order(3)).appointments]
    simulator.fault("cancel", "http_503", "before", count=1)
    with pytest.raises(CalcomUnavailable, match=f"1 of 3 bookings are not cancelled: {uids[0]}"):
        calcom.cancel_composite_bookings(uids, "No longer needed.")
    assert [one["uid"] for one in simulator.standing()] == uids[:1]
    calcom.cancel_composite_bookings(uids, "No longer needed.")
    assert simulator.standing() == []


def test_a_composite_booking_is_deleted_with_all_its_appointments_and_again(order, db, app_engine, simulator):
    made = CompositeBookingSaga.run(*order(3))
    handle = saga(db)
    service = DatabaseCompensationService("somebody")
    receipts = []
    for _ in range(2):
        with Session(app_engine.database.engine) as session, session.begin():
            receipts.append(service.delete_composite_appointment(session, made.id, saga_id=handle.id, reason="a test"))
    assert receipts[0] == receipts[1]
    assert [one["appointment_id"] for one in receipts[0]["appointments"]] == [one.id for one in made.appointments]
    deleted = "SELECT count(*) FROM audit_log WHERE action LIKE '%.deleted'"
    assert db.execute(text(deleted)).scalar_one() == 4
    assert all(row.deleted_at for row in appointments(db))


# --- by hand ---


def test_an_operator_says_which_booking_a_segment_has(order, db, simulator, app_engine):
    wanted = order(2)
    request = {"customer": wanted.customer, "segments": wanted.segments}
    undecided = CompositeBookingSaga("00000000-0000-0000-0000-000000000001", CompositeBookingSaga.parse(request), {})
    made = [
        simulator.book(event_type_id=one["event_type_id"], start=one["start"].isoformat()) for one in wanted.segments
    ]
    assert undecided.adopt_segment(made[1]["uid"], 1)["uid"] == made[1]["uid"]
    with pytest.raises(EffectGone, match="of another event type or time"):
        undecided.adopt_segment(made[1]["uid"], 0)
    with pytest.raises(PermanentError, match="has no booking nosuchbooking"):
        undecided.adopt_segment("nosuchbooking", 0)


# --- by workers; last, as they have more patience than this process and would take over ---


def test_carried_by_workers(order, db, simulator, worker):
    handle = CompositeBookingSaga.enqueue(*order(3))
    assert handle.wait(90) == "completed"
    assert len(handle.result().appointments) == len(simulator.standing()) == 3


def test_the_same_order_with_the_same_key_is_one_saga(order, db, simulator, worker):
    wanted = order(2)
    first, second = (CompositeBookingSaga.enqueue(*wanted, idempotency_key="form-1") for _ in range(2))
    assert first.id == second.id
    assert first.wait(90) == "completed"
    assert len(simulator.standing()) == 2
