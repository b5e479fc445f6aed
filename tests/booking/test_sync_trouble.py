"""`AppointmentSyncSaga` where one side is away or refuses: marked, made up for, and in the end a person is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from sagajobs import AppointmentSyncSaga, RetryPolicy, SagaCompensationException, SagaHandle
from sagajobs.saga import faultpoints
from tests.support.circuits import fail
from tests.support.gated import FAILURES, gate
from tests.support.refusing import refusing
from tests.support.syncing import (
    FAULTS,
    LATER,
    OPERATIONS,
    assert_as_before,
    assert_in_step,
    audit,
    due,
    heal,
    only_sync,
    row,
    sync,
)

pytestmark = pytest.mark.usefixtures("simulator", "impatient_sync")
ONCE = RetryPolicy(max_attempts=1, base=0.01)


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


def test_while_cal_com_is_left_alone_no_attempt_is_spent(booked, simulator, app_engine, monkeypatch):
    appointment = booked()
    simulator.fault("any", "http_503", "before", count=1000)
    circuit, _ = gate(monkeypatch, AppointmentSyncSaga, per_minute=1000)
    fail(circuit, FAILURES)
    result = sync(appointment, "cancel", patience=0.1)
    assert (result["success"], result["will_retry"]) == (False, True)
    assert SagaHandle(result["saga_id"]).record().steps["call_calcom"].attempts == 0
    simulator.heal()
    circuit.close()
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


# --- half done there, and given up ---

PLACE = {"type": "address", "place": "Private Street 1"}
GUESTS = ["guest@secret.example"]
BOTH = {"guests": GUESTS, "location": PLACE}


def cancelled(app_engine, handle: SagaHandle) -> dict:
    """Cancel a change that waits for its next attempt; return the receipt of its undo."""
    handle.cancel(who="Op", why="the customer rang")
    app_engine.drive(AppointmentSyncSaga, handle.id)
    assert handle.status() == "compensated"
    with app_engine.database.reading() as connection:
        query = "SELECT receipt FROM saga_steps WHERE saga_id = :id AND name = 'lock_appointment'"
        return connection.execute(text(query), {"id": handle.id}).scalar_one()


def test_cancelled_between_its_two_calls_it_says_that_guests_may_be_invited(booked, simulator, app_engine, db):
    appointment = booked()
    simulator.fault("location", "http_503", "before", count=1000)
    handle = SagaHandle(sync(appointment, "update", BOTH)["saga_id"])
    due(app_engine)
    assert cancelled(app_engine, handle)["may_stand"] == ["guests"]
    assert simulator.ledger()[0]["guests"] == GUESTS, "and they are"
    here = row(app_engine, appointment.id)
    assert (here.guests, here.location, here.calcom_sync_status) == ([], None, "synced")
    reverted = db.execute(text("SELECT detail FROM audit_log WHERE action = 'appointment.reverted'")).scalar_one()
    assert reverted["reason"] == "the saga was undone; what may stand at Cal.com: guests"


def test_a_caller_is_told_too_when_the_booking_goes_between_the_two_calls(booked, simulator):
    appointment = booked()
    simulator.fault("location", "http_503", "before", count=1)

    def host_cancels(point, _saga_id, step) -> None:
        if (point, step) == (faultpoints.Point.AFTER_CALL, "call_calcom"):  # of a look, as the call itself has failed
            faultpoints.install(None)
            simulator.host("cancel", appointment.calcom_v2_booking_id)

    with faultpoints.installed(host_cancels):
        result = sync(appointment, "update", BOTH)
    assert (result["success"], result["will_retry"], result["receipt"]["may_stand"]) == (False, False, ["guests"])


def test_where_no_call_was_made_nothing_may_stand(booked, app_engine, monkeypatch):
    appointment = booked()
    circuit, _ = gate(monkeypatch, AppointmentSyncSaga, per_minute=1000)
    fail(circuit, FAILURES)
    handle = SagaHandle(sync(appointment, "update", BOTH, patience=0.1)["saga_id"])
    assert cancelled(app_engine, handle)["may_stand"] == []


@pytest.mark.parametrize("data", [{"guests": GUESTS}, {"location": PLACE}], ids=["guests", "location"])
def test_where_a_look_tells_of_the_whole_change_nothing_may_stand(booked, simulator, app_engine, data):
    appointment = booked()
    simulator.fault("any", "http_503", "before", count=1000)
    handle = SagaHandle(sync(appointment, "update", data)["saga_id"])
    simulator.heal()
    assert cancelled(app_engine, handle)["may_stand"] == []
    (there,) = simulator.ledger()
    assert (there["guests"], there["location"] == PLACE["place"]) == ([], False)


# --- done there, and our own tables refuse it ---


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

    with faultpoints.installed(full), pytest.raises(SagaCompensationException):
        sync(appointment, "cancel")
    accept(app_engine, "appointments")
    assert only_sync(db).status() == "manual_review_required"
    assert db.execute(text("SELECT count(*) FROM review_cases")).scalar_one() == 1
    assert row(app_engine, appointment.id).calcom_sync_status == "pending"
    assert any("do not show how its review stands" in record.message for record in caplog.records)


# --- by workers; last, as they would take over what this process is slow with ---


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
    assert handle.wait(90) == "completed"
    assert_in_step(app_engine, simulator, operation, appointment.id, data)
