"""After each remedy an appointment's row says what is so: at once, when its saga has ended, once it is reconciled."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, CompositeBookingSaga, SagaCompensationException
from sagajobs.errors import RemedyRefused
from sagajobs.saga import Remedy, RetryPolicy, SagaHandle
from sagajobs.saga.states import UNFINISHED
from tests.support.following import hints, let_time_pass
from tests.support.refusing import accept, refuse
from tests.support.sagas import Killed, record
from tests.support.syncing import FAULTS, OPERATIONS, due, row
from tests.support.tables import change

pytestmark = pytest.mark.usefixtures("nobody_at_work", "simulator", "impatient_sync", "impatient_follow")

SIGNED = {"who": "Op", "why": "looked at it"}
ONCE = RetryPolicy(max_attempts=1, base=0.01)
GOES_ON = {Remedy.RETRY, Remedy.SKIP, Remedy.MARK_DONE, Remedy.MARK_UNDONE}


@pytest.fixture(autouse=True)
def _given_up_soon(monkeypatch):
    for kind, name in (
        (AppointmentSyncSaga, "call_calcom"),
        (AppointmentSyncSaga, "update_local"),
        (AppointmentCreationSaga, "book_calcom"),
        (CompositeBookingSaga, "book_segment"),
    ):
        step = kind.definition.timed(name)
        monkeypatch.setattr(step, "retry", replace(step.retry, max_attempts=2, base=0.01))
        if step.degraded is not None:
            monkeypatch.setattr(step, "degraded", replace(step.degraded, retry=ONCE))
        if step.finder is not None:
            looks = replace(step.finder.retry, max_attempts=2, base=0.01)
            monkeypatch.setattr(step, "finder", replace(step.finder, over=0.05, retry=looks))
        if step.undo is not None:
            monkeypatch.setattr(step.undo, "retry", replace(step.undo.retry, max_attempts=2, base=0.01))


@pytest.fixture
def settle(app_engine):
    """Settle what is asked about a saga, and return how its appointments then read, before anything else is done."""

    def go(handle: SagaHandle, remedy: Remedy, **reference: str) -> list[str]:
        number = app_engine.review.of(handle.id).number
        getattr(app_engine.review, remedy)(number, **SIGNED, **reference)
        return statuses(app_engine)

    return go


@pytest.fixture
def truth(app_engine, db, simulator, reconcile):
    """Reconcile, have what is found followed, and assert that each appointment reads as its booking does."""

    def check(made) -> None:
        let_time_pass(app_engine)
        reconcile(made)
        hints(app_engine, db)
        ledger = {booking["uid"]: booking for booking in simulator.ledger()}
        for here in db.execute(text("SELECT * FROM appointments WHERE deleted_at IS NULL")):
            if here.calcom_v2_booking_id is None:
                assert here.calcom_sync_status in ("pending", "error")
                continue
            there = ledger[here.calcom_v2_booking_id]
            stands = there["status"] in ("accepted", "pending")
            assert here.calcom_sync_status == ("synced" if stands else "cancelled")
            assert (here.status == "cancelled") == (not stands)
            assert here.starts_at.isoformat(timespec="milliseconds") == there["start"].replace("Z", "+00:00")
            assert here.moving_starts_at is None
        let_time_pass(app_engine)
        assert reconcile(made) == 0, "nothing is left to find"

    return check


def statuses(app_engine) -> list[str]:
    with app_engine.database.reading() as connection:
        found = connection.execute(text("SELECT calcom_sync_status FROM appointments ORDER BY id"))
        return list(found.scalars())


def carry_on(app_engine, kind, handle: SagaHandle) -> str:
    due(app_engine)
    app_engine.drive(kind, handle.id)
    return str(handle.status())


def die_at(app_engine, monkeypatch, kind, name: str, handle: SagaHandle) -> None:
    """Have every worker that comes to a step die in it, until a person is asked."""

    def die(*_):
        raise Killed

    step = kind.definition.step(name)
    with monkeypatch.context() as patch:
        patch.setattr(step, "method", die)
        patch.setattr(step, "timeout", -5.05)  # the lease of one that died is over at once
        for _ in range(20):
            if handle.status() not in UNFINISHED:
                break
            due(app_engine)
            change(app_engine, "UPDATE sagas SET hints = hints + 1 WHERE ended_at IS NULL")
            with contextlib.suppress(Killed):
                app_engine.drive(kind, handle.id)
    assert handle.status() == "manual_review_required"


# --- a change: done at Cal.com, and our own tables do not take it ---


@pytest.fixture
def refused(subject, app_engine):
    """Make a change that is done at Cal.com and refused here until a person is asked; they would take it by now."""

    def make(operation: str):
        appointment, data = subject(operation)
        refuse(app_engine, "appointments", "UPDATE OF calcom_v2_booking_id")
        with pytest.raises(SagaCompensationException) as caught:
            AppointmentSyncSaga.run(appointment.id, operation, data)
        accept(app_engine, "appointments")
        assert statuses(app_engine) == ["manual_review_required"]
        return appointment, SagaHandle(caught.value.saga_id)

    return make


@pytest.mark.parametrize("remedy", [Remedy.RETRY, Remedy.SKIP, Remedy.MARK_DONE, Remedy.ABANDON])
@pytest.mark.parametrize("operation", ["cancel", "reschedule"])
def test_a_change_that_our_tables_refused(refused, settle, truth, app_engine, remedy, operation):
    appointment, handle = refused(operation)
    reference = {"reference": "mended by hand"} if remedy is Remedy.MARK_DONE else {}
    assert settle(handle, remedy, **reference) == ["error"]
    assert str(row(app_engine, appointment.id).sync_saga_id) == handle.id
    ended = carry_on(app_engine, AppointmentSyncSaga, handle)
    assert ended == ("completed" if remedy in GOES_ON else "manual_review_required")
    if remedy is Remedy.RETRY:
        assert statuses(app_engine) == ["cancelled" if operation == "cancel" else "synced"]
    truth(appointment)


def test_a_row_that_was_mended_by_hand_stays_as_it_is(refused, settle, app_engine):
    _, handle = refused("cancel")
    change(app_engine, "UPDATE appointments SET status = 'cancelled', calcom_sync_status = 'cancelled'")
    assert settle(handle, Remedy.MARK_DONE, reference="by hand") == ["cancelled"]
    carry_on(app_engine, AppointmentSyncSaga, handle)
    assert statuses(app_engine) == ["cancelled"]


# --- a change: Cal.com does not take it ---


@pytest.mark.parametrize("remedy", [Remedy.RETRY, Remedy.SKIP, Remedy.ABANDON])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_change_that_cal_com_did_not_take(subject, simulator, settle, truth, app_engine, remedy, operation):
    appointment, data = subject(operation)
    simulator.fault(FAULTS[operation], "http_503", "before", count=1000)
    with pytest.raises(SagaCompensationException) as caught:
        AppointmentSyncSaga.run(appointment.id, operation, data)
    simulator.heal()
    handle = SagaHandle(caught.value.saga_id)
    assert settle(handle, remedy) == ["error"]
    carry_on(app_engine, AppointmentSyncSaga, handle)
    if remedy is Remedy.RETRY:
        assert statuses(app_engine) == ["cancelled" if operation == "cancel" else "synced"]
    if remedy is Remedy.SKIP:
        assert statuses(app_engine) == [appointment.calcom_sync_status]
    truth(appointment)


@pytest.mark.parametrize("remedy", [Remedy.RETRY, Remedy.MARK_DONE, Remedy.MARK_UNDONE, Remedy.ABANDON])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_change_that_nothing_can_tell_of(booked, simulator, settle, truth, app_engine, db, remedy, backward):
    """Cancelled at Cal.com, and neither that call nor a look was answered; or the saga was being undone."""
    made = booked()
    handle = record(AppointmentSyncSaga, {"appointment_id": made.id, "operation": "cancel", "data": {}})
    for name in ("lock_appointment", "call_calcom"):
        simulator.fault("cancel", "timeout", "after", count=1)
        step = AppointmentSyncSaga.definition.step(name)
        app_engine.executor.forward(AppointmentSyncSaga, step, handle.id)
    if backward:
        change(app_engine, "UPDATE sagas SET state = 'compensating' WHERE id = :id", id=handle.id)
    simulator.heal()
    simulator.fault("get", "http_503", "before", count=2)
    assert carry_on(app_engine, AppointmentSyncSaga, handle) == "manual_review_required"
    assert statuses(app_engine) == ["manual_review_required"]
    simulator.heal()
    reference = {"reference": made.calcom_v2_booking_id} if remedy is Remedy.MARK_DONE else {}
    assert settle(handle, remedy, **reference) == ["error"]
    carry_on(app_engine, AppointmentSyncSaga, handle)
    truth(made)


def test_a_change_that_never_began_leaves_the_appointment_alone(
    booked, settle, truth, app_engine, db, simulator, monkeypatch
):
    made = booked()
    handle = record(AppointmentSyncSaga, {"appointment_id": made.id, "operation": "cancel", "data": {}})
    die_at(app_engine, monkeypatch, AppointmentSyncSaga, "lock_appointment", handle)
    assert statuses(app_engine) == ["synced"]
    for remedy in (Remedy.SKIP, Remedy.MARK_DONE):
        with pytest.raises(RemedyRefused, match="later steps cannot do without its result"):
            settle(handle, remedy, **({"reference": "x"} if remedy is Remedy.MARK_DONE else {}))
    assert settle(handle, Remedy.MARK_UNDONE) == ["synced"]
    assert carry_on(app_engine, AppointmentSyncSaga, handle) == "compensated"
    truth(made)


# --- a new appointment ---


@pytest.mark.parametrize("remedy", [Remedy.RETRY, Remedy.MARK_UNDONE, Remedy.ABANDON])
def test_a_booking_that_every_worker_died_of(
    booked, booking, settle, truth, app_engine, db, simulator, monkeypatch, remedy
):
    other = booked()
    handle = record(AppointmentCreationSaga, booking())
    die_at(app_engine, monkeypatch, AppointmentCreationSaga, "book_calcom", handle)
    assert statuses(app_engine) == ["synced", "manual_review_required"]
    with pytest.raises(RemedyRefused, match="later steps cannot do without its result"):
        settle(handle, Remedy.SKIP)
    assert settle(handle, remedy) == ["synced", "cancelled" if remedy is Remedy.MARK_UNDONE else "error"]
    carry_on(app_engine, AppointmentCreationSaga, handle)
    expected = {Remedy.RETRY: "synced", Remedy.MARK_UNDONE: "cancelled", Remedy.ABANDON: "error"}
    assert statuses(app_engine) == ["synced", expected[remedy]]
    truth(other)


@pytest.mark.parametrize("remedy", [Remedy.RETRY, Remedy.MARK_UNDONE, Remedy.ABANDON])
def test_a_booking_that_could_not_be_cancelled(booking, settle, truth, app_engine, db, simulator, remedy):
    handle = record(AppointmentCreationSaga, booking())
    for name in ("create_customer", "create_appointment", "book_calcom"):
        step = AppointmentCreationSaga.definition.step(name)
        app_engine.executor.forward(AppointmentCreationSaga, step, handle.id)
    made = row(app_engine, 1)
    handle.cancel(**SIGNED)
    simulator.fault("cancel", "http_503", "before", count=2)
    assert carry_on(app_engine, AppointmentCreationSaga, handle) == "manual_review_required"
    if remedy is Remedy.MARK_UNDONE:
        simulator.host("cancel", made.calcom_v2_booking_id)
    assert settle(handle, remedy) == ["cancelled" if remedy is Remedy.MARK_UNDONE else "error"]
    carry_on(app_engine, AppointmentCreationSaga, handle)
    assert statuses(app_engine) == ["error" if remedy is Remedy.ABANDON else "cancelled"]
    truth(made)


@pytest.mark.parametrize("remedy", [Remedy.RETRY, Remedy.MARK_UNDONE, Remedy.ABANDON])
def test_an_appointment_that_every_worker_died_of_is_none(
    booked, booking, settle, truth, app_engine, db, simulator, monkeypatch, remedy
):
    other = booked()
    handle = record(AppointmentCreationSaga, booking())
    die_at(app_engine, monkeypatch, AppointmentCreationSaga, "create_appointment", handle)
    for refused in (Remedy.SKIP, Remedy.MARK_DONE):
        with pytest.raises(RemedyRefused, match="later steps cannot do without its result"):
            settle(handle, refused, **({"reference": "1"} if refused is Remedy.MARK_DONE else {}))
    assert settle(handle, remedy) == ["synced"]
    carry_on(app_engine, AppointmentCreationSaga, handle)
    assert statuses(app_engine) == (["synced", "synced"] if remedy is Remedy.RETRY else ["synced"])
    truth(other)


# --- several at once ---


@pytest.mark.parametrize("remedy", [Remedy.RETRY, Remedy.MARK_DONE, Remedy.MARK_UNDONE, Remedy.ABANDON])
def test_one_of_several_that_nothing_can_tell_of(order, settle, app_engine, db, simulator, remedy):
    wanted = order(3)
    request = {"customer": wanted.customer, "segments": wanted.segments}
    handle = record(CompositeBookingSaga, request)
    steps = [CompositeBookingSaga.definition.step(name) for name in ("create_customer", "create_appointments")]
    steps += [CompositeBookingSaga.definition.step(f"book_segment[{number}]") for number in range(3)]
    for step in steps:
        if step.name == "book_segment[1]":
            simulator.fault("create", "timeout", "after", count=1)
        app_engine.executor.forward(CompositeBookingSaga, step, handle.id)
    simulator.fault("list", "http_503", "before", count=2)
    assert carry_on(app_engine, CompositeBookingSaga, handle) == "manual_review_required"
    assert statuses(app_engine) == ["manual_review_required"] * 3
    simulator.heal()
    booked = {booking["metadata"]["sagajobs_key"]: booking["uid"] for booking in simulator.standing()}
    uid = booked[f"{handle.id}/book_segment[1]"]
    if remedy is Remedy.MARK_UNDONE:
        simulator.host("cancel", uid)
    reference = {"reference": uid} if remedy is Remedy.MARK_DONE else {}
    at_once = {Remedy.MARK_DONE: "synced", Remedy.MARK_UNDONE: "cancelled"}.get(remedy, "error")
    assert settle(handle, remedy, **reference) == ["synced", at_once, "synced"]
    carry_on(app_engine, CompositeBookingSaga, handle)
    afterwards = {
        Remedy.RETRY: ["synced"] * 3,
        Remedy.MARK_DONE: ["synced"] * 3,
        Remedy.MARK_UNDONE: ["cancelled"] * 3,
        Remedy.ABANDON: ["synced", "error", "synced"],
    }
    assert statuses(app_engine) == afterwards[remedy]
