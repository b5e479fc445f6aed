"""`AppointmentSyncSaga` asked for what makes no sense: refused in one line, before anything is written."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs import AppointmentSyncSaga, InvalidInput
from tests.support.syncing import BOOKED, LATER

pytestmark = pytest.mark.usefixtures("simulator", "impatient_sync")


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
