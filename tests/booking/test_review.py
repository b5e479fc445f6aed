"""Bookings that need a person: what is said before a remedy, to the call, and what the remedy does at Cal.com."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, RemedyRefused, SagaHandle
from sagajobs.booking.errors import NothingToAdopt
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.errors import EffectGone, RehearsalOver
from sagajobs.saga import Remedy, RetryPolicy
from sagajobs.saga.explain import explain, explain_cancel
from tests.support.sagas import Killed, record
from tests.support.tables import dump

SIGNED = {"who": "Op", "why": "looked at it"}
BRIEF = RetryPolicy(max_attempts=2, base=0.01, max_delay=0.02)
STEP = AppointmentCreationSaga.definition.step("book_calcom")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch, app_engine):
    monkeypatch.setattr(STEP, "finder", replace(STEP.finder, over=0.05, retry=BRIEF))
    monkeypatch.setattr(STEP, "retry", BRIEF)
    monkeypatch.setattr(STEP.undo, "retry", BRIEF)
    monkeypatch.setattr(app_engine, "publisher", None)


def drive(app_engine, handle) -> str:
    app_engine.drive(AppointmentCreationSaga, handle.id)
    return str(handle.status())


@pytest.fixture
def in_doubt(app_engine, booking, simulator, db):
    """Booked and not answered, and no look was answered either."""
    handle = record(AppointmentCreationSaga, booking(notes="Secret note"))
    simulator.fault("create", "timeout", "after", count=1)
    simulator.fault("list", "http_503", "before", count=2)
    assert drive(app_engine, handle) == "manual_review_required"
    return handle


@pytest.fixture
def not_cancelled(app_engine, booking, simulator, db):
    """Cancelled by an operator, and Cal.com did not take the cancel."""
    handle = record(AppointmentCreationSaga, booking(customer={"name": "Private Person"}))
    for name in ("create_customer", "create_appointment", "book_calcom"):
        step = AppointmentCreationSaga.definition.step(name)
        app_engine.executor.forward(AppointmentCreationSaga, step, handle.id)
    handle.cancel(**SIGNED)
    simulator.fault("cancel", "http_503", "before", count=2)
    assert drive(app_engine, handle) == "manual_review_required"
    return handle


@pytest.fixture
def exhausted(app_engine, booking, simulator, db):
    """Every worker that came to book died."""
    handle = record(AppointmentCreationSaga, booking(notes="Secret note"))

    def die(self, key):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(STEP, "method", die)
        patch.setattr(STEP, "timeout", -5.05)  # the lease of one that died is over at once
        for _ in range(BRIEF.max_attempts + 2):
            with contextlib.suppress(Killed):
                drive(app_engine, handle)
    assert handle.status() == "manual_review_required"
    return handle


def said(app_engine, handle: SagaHandle, remedy: Remedy, **more):
    (prospect,) = explain(app_engine, app_engine.review.of(handle.id).number, only=remedy, **more).prospects
    return prospect


def calls(prospect) -> list[tuple[str, str]]:
    return [(call["method"], call["path"]) for act in prospect.follows for call in act.calls]


@pytest.mark.parametrize("about", ["in_doubt", "not_cancelled", "exhausted"])
def test_an_explanation_changes_nothing_here_or_at_cal_com(app_engine, simulator, db, request, about):
    handle = request.getfixturevalue(about)
    number = app_engine.review.of(handle.id).number
    tables, ledger = dump(db), simulator.ledger()
    changes = [call for call in simulator.calls() if call["method"] != "GET"]
    for private in (False, True):
        found = explain(app_engine, number, private=private)
        assert len(found.prospects) == len(Remedy)
    assert dump(db) == tables
    assert simulator.ledger() == ledger
    assert [call for call in simulator.calls() if call["method"] != "GET"] == changes
    app_engine.review.abandon(number, **SIGNED)


def test_a_retry_is_explained_down_to_the_call_which_it_then_makes(app_engine, simulator, exhausted):
    prospect = said(app_engine, exhausted, Remedy.RETRY, private=True)
    assert prospect.changes[1:] == (
        "step book_calcom: failed → waiting, counted from nothing again",
        "local: Have the appointment show that nobody is asked about it any more, if it has been made.",
        "saga: manual_review_required → running",
    )
    (act,) = prospect.follows
    (call,) = act.calls
    assert (act.step, act.act, act.external) == ("book_calcom", "run", True)
    assert (call["method"], call["path"]) == ("POST", "/v2/bookings")
    assert call["body"]["metadata"] == {METADATA_KEY: f"{exhausted.id}/book_calcom"}
    assert call["body"]["attendee"]["email"].startswith("private.person")
    app_engine.review.retry(app_engine.review.of(exhausted.id).number, **SIGNED)
    assert drive(app_engine, exhausted) == "completed"
    (booked,) = simulator.standing()
    assert booked["metadata"] == call["body"]["metadata"]


def test_what_is_about_the_customer_is_masked_unless_asked_for(app_engine, exhausted):
    number = app_engine.review.of(exhausted.id).number
    shown = repr(explain(app_engine, number))
    assert "***" in shown
    for private in ("Private", "private.person", "secret.example", "Secret note"):
        assert private not in shown
    assert "Secret note" in repr(explain(app_engine, number, private=True))
    app_engine.review.abandon(number, **SIGNED)


def test_a_look_is_really_made_and_says_what_it_sees(app_engine, simulator, in_doubt):
    prospect = said(app_engine, in_doubt, Remedy.RETRY)
    assert [(act.act, act.calls) for act in prospect.follows] == [("look", ())]
    assert "it finds it now" in prospect.follows[0].says
    app_engine.review.retry(app_engine.review.of(in_doubt.id).number, **SIGNED)
    assert drive(app_engine, in_doubt) == "completed"
    assert len(simulator.ledger()) == 1


def test_the_undos_are_explained_in_their_order(app_engine, simulator, not_cancelled):
    (uid,) = (booking["uid"] for booking in simulator.ledger())
    prospect = said(app_engine, not_cancelled, Remedy.RETRY)
    assert [(act.step, act.external) for act in prospect.follows] == [
        ("book_calcom", True),
        ("create_appointment", False),
    ]
    assert calls(prospect) == [("POST", f"/v2/bookings/{uid}/cancel")]
    app_engine.review.retry(app_engine.review.of(not_cancelled.id).number, **SIGNED)
    assert drive(app_engine, not_cancelled) == "compensated"
    assert simulator.standing() == []


def test_a_cancel_is_explained_before_it_is_done(app_engine, booking, simulator, db):
    handle = record(AppointmentCreationSaga, booking())
    for name in ("create_customer", "create_appointment", "book_calcom"):
        step = AppointmentCreationSaga.definition.step(name)
        app_engine.executor.forward(AppointmentCreationSaga, step, handle.id)
    (booked,) = simulator.ledger()
    before = dump(db)
    prospect = explain_cancel(app_engine, handle.id)
    assert prospect.changes == ("saga: running → compensating",)
    assert calls(prospect) == [("POST", f"/v2/bookings/{booked['uid']}/cancel")]
    assert dump(db) == before
    assert simulator.ledger() == [booked]
    handle.cancel(**SIGNED)
    assert drive(app_engine, handle) == "compensated"


def test_a_booking_cancelled_by_hand_is_noted_and_the_rest_undone(app_engine, simulator, db, not_cancelled):
    (booked,) = simulator.standing()
    simulator.host("cancel", booked["uid"])
    case = app_engine.review.of(not_cancelled.id)
    assert calls(said(app_engine, not_cancelled, Remedy.MARK_UNDONE)) == []
    app_engine.review.mark_undone(case.number, **SIGNED)
    assert drive(app_engine, not_cancelled) == "compensated"
    assert sum("booking_cancelled" in row for (row,) in dump(db)["audit_log"]) == 1


def test_a_booking_made_by_hand_becomes_the_appointments(app_engine, booking, simulator, db, exhausted):
    start = exhausted.record().input["start"]
    made = simulator.book(event_type_id=exhausted.record().input["event_type_id"], start=start)
    case = app_engine.review.of(exhausted.id)
    assert calls(said(app_engine, exhausted, Remedy.MARK_DONE, reference=made["uid"])) == []
    app_engine.review.mark_done(case.number, reference=made["uid"], **SIGNED)
    assert drive(app_engine, exhausted) == "completed"
    assert exhausted.result().calcom_v2_booking_id == made["uid"]
    kept = db.execute(text("SELECT detail->>'reference' FROM audit_log WHERE action = 'case.mark_done'"))
    assert kept.scalars().all() == [made["uid"]]


def test_a_booking_that_does_not_fit_is_refused(app_engine, booking, simulator, db, exhausted):
    number = app_engine.review.of(exhausted.id).number
    other = simulator.book(
        event_type_id=exhausted.record().input["event_type_id"], start=booking()["start"].replace(hour=15).isoformat()
    )
    before = dump(db)
    with pytest.raises(NothingToAdopt, match="has no booking nobody"):
        app_engine.review.mark_done(number, reference="nobody", **SIGNED)
    with pytest.raises(EffectGone, match="of another event type or time"):
        app_engine.review.mark_done(number, reference=other["uid"], **SIGNED)
    assert dump(db) == before
    app_engine.review.abandon(number, **SIGNED)


def test_a_booking_that_is_another_appointments_is_refused(app_engine, booking, simulator, db, exhausted):
    """It fits, and our own tables know that it is taken."""
    wanted = exhausted.record().input
    made = simulator.book(event_type_id=wanted["event_type_id"], start=wanted["start"])
    request = booking(event_type_id=wanted["event_type_id"], calcom_booking_uid=made["uid"])
    AppointmentCreationSaga.run({**request, "start": wanted["start"]})
    number = app_engine.review.of(exhausted.id).number
    before = dump(db)
    with pytest.raises(RemedyRefused, match="record_booking are refused"):
        app_engine.review.mark_done(number, reference=made["uid"], **SIGNED)
    assert dump(db) == before
    app_engine.review.abandon(number, **SIGNED)


def test_a_rehearsed_cache_reads_and_forgets_nothing(app_engine, simulator, db, booking):
    made = AppointmentCreationSaga.run(booking())
    cache = AppointmentCreationSaga.services.cache
    assert cache.get(made.id) == made.summary
    services, listed = AppointmentCreationSaga.rehearse(AppointmentCreationSaga.services)
    with pytest.raises(RehearsalOver):
        services.cache.invalidate(made.id)
    assert services.cache.get(made.id) == made.summary
    assert [(call["method"], call["path"]) for call in listed] == [("DEL", f"sagajobs:appointment:{made.id}")]
    assert cache.invalidate(made.id) is True, "it was still there"


def test_a_rehearsed_client_reads_and_never_changes(app_engine, simulator, db, booking):
    services, listed = AppointmentCreationSaga.rehearse(AppointmentCreationSaga.services)
    made = simulator.book(event_type_id=1, start=booking()["start"].isoformat())
    assert services.calcom.get_booking(made["uid"]).uid == made["uid"]
    with pytest.raises(RehearsalOver):
        services.calcom.cancel_booking(made["uid"], "because")
    assert listed == [
        {
            "method": "POST",
            "path": f"/v2/bookings/{made['uid']}/cancel",
            "body": {"cancellationReason": "because"},
            "masked": {"cancellationReason": "***"},
        }
    ]
    assert len(simulator.standing()) == 1


# --- a change of an appointment ---


@pytest.fixture
def change_in_doubt(app_engine, booking, simulator, db, monkeypatch):
    """Cancelled at Cal.com and not answered, and no look was answered either."""
    step = AppointmentSyncSaga.definition.step("call_calcom")
    monkeypatch.setattr(step, "finder", replace(step.finder, over=0.05, retry=BRIEF))
    made = AppointmentCreationSaga.run(booking())
    handle = record(AppointmentSyncSaga, {"appointment_id": made.id, "operation": "cancel", "data": {}})
    simulator.fault("cancel", "timeout", "after", count=1)
    simulator.fault("get", "http_503", "before", count=2)
    app_engine.drive(AppointmentSyncSaga, handle.id)
    assert handle.status() == "manual_review_required"
    return handle, made


def test_a_change_in_doubt_is_found_by_a_look(app_engine, simulator, change_in_doubt):
    handle, _ = change_in_doubt
    prospect = said(app_engine, handle, Remedy.RETRY)
    assert [(act.step, act.act, act.calls) for act in prospect.follows] == [("call_calcom", "look", ())]
    assert "it finds it now" in prospect.follows[0].says
    app_engine.review.retry(app_engine.review.of(handle.id).number, **SIGNED)
    app_engine.drive(AppointmentSyncSaga, handle.id)
    assert handle.status() == "completed"
    assert handle.result()["appointment"].status == "cancelled"


def test_a_change_done_by_hand_is_caught_up_with_here(app_engine, simulator, change_in_doubt):
    handle, made = change_in_doubt
    prospect = said(app_engine, handle, Remedy.MARK_DONE, reference=made.calcom_v2_booking_id)
    assert [(act.step, act.external) for act in prospect.follows] == [("update_local", False)]
    number = app_engine.review.of(handle.id).number
    app_engine.review.mark_done(number, reference=made.calcom_v2_booking_id, **SIGNED)
    app_engine.drive(AppointmentSyncSaga, handle.id)
    assert (handle.status(), handle.result()["appointment"].status) == ("completed", "cancelled")


def test_a_change_that_did_not_come_about_has_what_was_reserved_for_it_taken_back(
    app_engine, simulator, db, change_in_doubt
):
    handle, _ = change_in_doubt
    app_engine.review.mark_undone(app_engine.review.of(handle.id).number, **SIGNED)
    app_engine.drive(AppointmentSyncSaga, handle.id)
    assert handle.status() == "compensated"
    row = db.execute(text("SELECT status, calcom_sync_status FROM appointments")).one()
    assert (row.status, row.calcom_sync_status) == ("scheduled", "synced"), "as it stood before"
