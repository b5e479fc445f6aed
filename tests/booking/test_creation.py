"""`AppointmentCreationSaga`: each way it can go, with the exact end of saga, appointment, customer and Cal.com."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from sagajobs import AppointmentCreationSaga, SagaCompensationException, SagaException, SagaNotFinished
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.testing.waiting import wait_for
from tests.support.creating import appointments, assert_undone, audit, customers, saga
from tests.support.refusing import refusing
from tests.support.sagas import reason, record, states

pytestmark = pytest.mark.usefixtures("impatient_creation")

ALL_DONE = dict.fromkeys(["create_customer", "create_appointment", "book_calcom", "assign_staff"], "done")


def test_happy_path(booking, db, simulator, staff):
    request = booking(notes="by the window", customer={"phone": "+4930123456"})
    made = AppointmentCreationSaga.run(request)
    handle = saga(db)
    assert handle.status() == "completed"
    assert handle.public_status() == "confirmed"
    assert handle.result() == made
    assert states(handle) == ALL_DONE
    assert (made.status, made.calcom_sync_status, made.staff_id) == ("scheduled", "synced", staff[0])
    (booked,) = simulator.ledger()
    assert booked["uid"] == made.calcom_v2_booking_id
    assert booked["metadata"] == {METADATA_KEY: f"{handle.id}/book_calcom"}
    assert booked["start"] == request["start"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert audit(db) == ["appointment.booked"]
    (row,) = appointments(db)
    assert (row.notes, row.deleted_at) == ("by the window", None)


def test_a_customer_is_known_by_e_mail_in_any_case(booking, db):
    AppointmentCreationSaga.run(booking(customer={"email": "one.person@secret.example"}))
    AppointmentCreationSaga.run(booking(customer={"email": "One.Person@secret.example", "name": "Another Name"}))
    assert customers(db) == 1
    assert len({row.customer_id for row in appointments(db)}) == 1


@pytest.mark.parametrize("email", ["\u0130lker@secret.example", "\u0391\u03a3@secret.example"])
def test_a_customer_comes_back_whose_lower_case_is_a_matter_of_taste(booking, db, email):
    for _ in range(2):
        handle = record(AppointmentCreationSaga, booking(customer={"email": email}))
        AppointmentCreationSaga.engine.drive(AppointmentCreationSaga, handle.id)
        assert "create_customer" in handle.record().completed_steps
    assert customers(db) == 1


def test_an_event_type_with_several_lengths_gets_the_one_that_is_asked_for(booking, simulator):
    made = AppointmentCreationSaga.run(booking(event_type_id=6, duration_minutes=60))
    (booked,) = simulator.ledger()
    assert booked["duration"] == 60
    assert (made.ends_at - made.starts_at).total_seconds() == 3600


def test_where_cal_com_wants_confirmation_the_appointment_stays_pending(booking, db):
    made = AppointmentCreationSaga.run(booking(event_type_id=7))
    assert (made.status, made.calcom_sync_status) == ("pending", "synced")
    assert made.calcom_v2_booking_id is not None
    assert saga(db).public_status() == "confirming"


def test_the_same_booking_twice_where_cal_com_wants_confirmation_is_refused_and_the_first_one_stands(
    booking, db, simulator
):
    request = booking(event_type_id=7)
    AppointmentCreationSaga.run(request)
    with pytest.raises(SagaException) as caught:
        AppointmentCreationSaga.run(request)
    assert reason(caught.value) == "AlreadyBooked"
    assert len(simulator.standing()) == 1


def test_nobody_matches_the_host_and_that_is_no_failure(booking, db):
    made = AppointmentCreationSaga.run(booking())
    assert made.staff_id is None
    assert states(saga(db)) == ALL_DONE
    assert saga(db).record().results["assign_staff"]["reason"] == "no staff member matches Cal.com's host"


def test_staff_that_cannot_be_assigned_is_recorded_and_the_booking_stands(booking, db, staff, app_engine):
    """The host of event type 1 is busy in our own books, though Cal.com thinks that he is free."""
    with app_engine.database.transaction() as connection:
        request = booking(event_type_id=1)
        connection.execute(
            text(
                "INSERT INTO customers (name, email, time_zone) VALUES ('x', 'x@x.example', 'UTC');"
                "INSERT INTO appointments (customer_id, staff_id, event_type_id, starts_at, ends_at) "
                "VALUES (1, :staff, 1, :start, CAST(:start AS timestamptz) + interval '30 min')"
            ),
            {"staff": staff[0], "start": request["start"]},
        )
    made = AppointmentCreationSaga.run(request)
    assert made.staff_id is None
    assert saga(db).status() == "completed"
    assert states(saga(db)) == ALL_DONE | {"assign_staff": "failed"}


def test_the_customer_cannot_be_created(booking, db, simulator, app_engine):
    with refusing(app_engine, "customers"), pytest.raises(SagaException) as caught:
        AppointmentCreationSaga.run(booking())
    assert caught.value.failed_step == "create_customer"
    assert saga(db).status() == "compensated"
    assert (appointments(db), customers(db), simulator.ledger()) == ([], 0, [])


def test_the_appointment_cannot_be_created(booking, db, simulator, app_engine):
    """The seed's failure: the local insert fails (disk full), nothing must stay at Cal.com."""
    with refusing(app_engine, "appointments"), pytest.raises(SagaException) as caught:
        AppointmentCreationSaga.run(booking())
    assert (caught.value.failed_step, caught.value.completed_steps) == ("create_appointment", ("create_customer",))
    assert saga(db).status() == "compensated"
    assert (appointments(db), customers(db), simulator.ledger()) == ([], 1, [])


def test_the_slot_is_taken_here(booking, db, simulator, staff):
    first = booking(staff_id=staff[0])
    AppointmentCreationSaga.run(first)
    with pytest.raises(SagaException, match="failed at step create_appointment") as caught:
        AppointmentCreationSaga.run(booking(staff_id=staff[0], start=first["start"], event_type_id=2))
    assert reason(caught.value) == "SlotNotFree"
    assert len(appointments(db)) == 1
    assert len(simulator.ledger()) == 1


def test_the_slot_is_taken_at_cal_com(booking, db, simulator):
    request = booking()
    simulator.book(event_type_id=request["event_type_id"], start=request["start"].isoformat())
    with pytest.raises(SagaException) as caught:
        AppointmentCreationSaga.run(request)
    assert reason(caught.value) == "SlotTaken"
    assert len(simulator.standing()) == 1
    simulator.reset()
    assert_undone(db, simulator, uid=False)


def test_the_slot_is_taken_by_an_earlier_booking_of_the_same_customer(booking, db, simulator):
    """The look at Cal.com finds a booking of this customer for this time: not ours, as it has not our key."""
    request = booking()
    first = AppointmentCreationSaga.run(request)
    with pytest.raises(SagaException) as caught:
        AppointmentCreationSaga.run(request)
    assert reason(caught.value) == "SlotTaken"
    assert [one["uid"] for one in simulator.standing()] == [first.calcom_v2_booking_id]


def test_cal_com_is_down_for_good(booking, db, simulator):
    simulator.fault("create", "http_503", "before", count=50)
    with pytest.raises(SagaException):
        AppointmentCreationSaga.run(booking())
    assert simulator.ledger() == []
    assert_undone(db, simulator, uid=False)


@pytest.mark.parametrize("kind", ["timeout", "drop", "http_500", "http_524", "malformed"])
def test_booked_and_reported_as_failed_is_found_and_booked_once(booking, db, simulator, kind):
    simulator.fault("create", kind, "after", count=1)
    made = AppointmentCreationSaga.run(booking())
    (booked,) = simulator.ledger()
    assert (booked["uid"], booked["status"]) == (made.calcom_v2_booking_id, "accepted")
    assert saga(db).status() == "completed"


@pytest.mark.parametrize("kind", ["timeout", "drop", "http_500"])
def test_not_booked_and_reported_as_failed_is_booked_once(booking, db, simulator, kind):
    simulator.fault("create", kind, "before", count=1)
    made = AppointmentCreationSaga.run(booking())
    (booked,) = simulator.ledger()
    assert booked["uid"] == made.calcom_v2_booking_id


def test_a_rate_limit_spends_no_attempt(booking, db, simulator):
    simulator.fault("create", "rate_limit", count=2, seconds=0.1)
    AppointmentCreationSaga.run(booking())
    assert saga(db).record().steps["book_calcom"].attempts == 1


@pytest.mark.patient
def test_a_replica_that_lags_does_not_make_us_book_twice(booking, db, simulator):
    """Booked, then a time-out, and the first looks see nothing."""
    simulator.switch(lag_ms=2500)
    simulator.fault("create", "timeout", "after", count=1)
    made = AppointmentCreationSaga.run(booking())
    (booked,) = simulator.ledger()
    assert booked["uid"] == made.calcom_v2_booking_id


def test_the_booking_is_made_and_our_tables_refuse_it(booking, db, simulator, app_engine):
    """The seed's orphan: booked at Cal.com, and the local record fails for good. It is cancelled there."""
    refused = "UPDATE OF calcom_v2_booking_id"
    with refusing(app_engine, "appointments", refused), pytest.raises(SagaException) as caught:
        AppointmentCreationSaga.run(booking())
    assert caught.value.failed_step == "book_calcom"
    (booked,) = simulator.ledger()
    assert booked["status"] == "cancelled"
    assert_undone(db, simulator, uid=False)


def test_cancelling_at_cal_com_is_refused_first_and_done_then(booking, db, simulator, app_engine):
    with _late_failure(app_engine):
        simulator.fault("cancel", "http_500", "after", count=1)
        with pytest.raises(SagaException):
            AppointmentCreationSaga.run(booking())
    assert_undone(db, simulator, uid=True)


def test_cancelling_at_cal_com_fails_for_good_and_a_person_is_asked(booking, db, simulator, app_engine, monkeypatch):
    """Critical: the booking stands, so the appointment must not be deleted below it."""
    undo = AppointmentCreationSaga.definition.step("book_calcom").undo
    monkeypatch.setattr(undo, "retry", replace(undo.retry, max_attempts=2, base=0.05))
    with _late_failure(app_engine):
        simulator.fault("cancel", "http_503", "before", count=50)
        with pytest.raises(SagaCompensationException) as caught:
            AppointmentCreationSaga.run(booking())
    assert list(caught.value.failed_compensations) == ["book_calcom"]
    handle = saga(db)
    assert (handle.status(), handle.public_status()) == ("manual_review_required", "needs us")
    (row,) = appointments(db)
    assert (row.status, row.deleted_at) == ("scheduled", None)
    (case,) = db.execute(text("SELECT reason, urgent_at, evidence FROM review_cases")).all()
    assert case.reason == "an undo failed"
    assert case.urgent_at == row.starts_at, "the nearest appointment is the most urgent"
    assert len(simulator.standing()) == 1


# --- all at once ---


def _outcome(request) -> str:
    try:
        AppointmentCreationSaga.run(request)
    except SagaException as error:
        return reason(error)
    return "booked"


def test_a_hundred_requests_for_one_slot_are_one_appointment_and_99_refusals(booking, db, simulator, staff):
    first = booking(staff_id=staff[0])
    requests = [booking(staff_id=staff[0], event_type_id=1, start=first["start"]) for _ in range(100)]
    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(_outcome, requests))
    assert sorted(outcomes) == ["SlotNotFree"] * 99 + ["booked"]
    assert len(appointments(db)) == 1
    assert len(simulator.ledger()) == 1


def test_two_writes_of_one_staff_members_slots_take_turns_instead_of_deadlocking(booking, db, app_engine, staff):
    """One changes its appointment twice in a transaction; in between another one wants the same slot."""
    made = AppointmentCreationSaga.run(booking(staff_id=staff[0]))
    change = text("UPDATE appointments SET status = :status, notes = 'x' WHERE id = :id")
    wanted = text(
        "INSERT INTO appointments (customer_id, staff_id, event_type_id, starts_at, ends_at) "
        "SELECT customer_id, staff_id, event_type_id, starts_at, ends_at FROM appointments WHERE id = :id"
    )

    def insert() -> None:
        with app_engine.database.transaction() as connection:
            connection.execute(wanted, {"id": made.id})

    with ThreadPoolExecutor(1) as pool:
        with app_engine.database.transaction() as connection:
            connection.execute(change, {"id": made.id, "status": "confirmed"})
            other = pool.submit(insert)
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            wait_for(lambda: connection.execute(waiting).scalar_one() > 0)
            connection.execute(change, {"id": made.id, "status": "scheduled"})
        with pytest.raises(IntegrityError, match="ex_appointments_slot"):
            other.result(120)


def test_a_hundred_first_bookings_of_one_customer_are_one_customer(booking, db, simulator):
    requests = [booking(customer={"email": "New.Customer@secret.example"}) for _ in range(100)]
    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(_outcome, requests))
    assert outcomes == ["booked"] * 100
    assert customers(db) == 1
    assert len(simulator.standing()) == 100


class _late_failure:  # noqa: N801 - reads as the state that it is
    """While open, `assign_staff` counts as required and fails, so that everything before it is undone."""

    def __init__(self, engine) -> None:
        self._step = AppointmentCreationSaga.definition.step("assign_staff")

    def __enter__(self) -> None:
        def fail(_saga, _db):
            raise ValueError("staff")

        self._method = self._step.method
        self._step.optional, self._step.method = False, fail

    def __exit__(self, *_: object) -> None:
        self._step.optional, self._step.method = True, self._method


# --- by workers; last, as they would take over what this process is slow with ---


def test_a_caller_waits_so_long_and_the_workers_carry_on(booking, db, simulator, app_engine, worker):
    simulator.fault("create", "http_503", "before", count=1)
    with pytest.raises(SagaNotFinished, match="workers carry it on"):
        AppointmentCreationSaga.run(booking(), patience=0.05)
    assert saga(db).wait(90) == "completed"
