"""`AppointmentCreationSaga` for a booking that was brought along: a phone agent has booked at Cal.com already."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sagajobs import AppointmentCreationSaga, SagaException
from sagajobs.saga import faultpoints
from tests.support.creating import assert_undone, saga
from tests.support.refusing import refusing
from tests.support.sagas import reason, record

pytestmark = pytest.mark.usefixtures("impatient_creation")


def _booked_by_phone(simulator, request) -> str:
    booked = simulator.book(
        event_type_id=request["event_type_id"],
        start=request["start"].isoformat(),
        email=request["customer"]["email"],
    )
    return booked["uid"]


def test_a_booking_that_was_brought_along_is_adopted(booking, db, simulator, staff):
    request = booking()
    uid = _booked_by_phone(simulator, request)
    made = AppointmentCreationSaga.run(request | {"calcom_booking_uid": uid})
    assert (made.calcom_v2_booking_id, made.status, made.staff_id) == (uid, "scheduled", staff[0])
    assert len(simulator.ledger()) == 1
    assert saga(db).record().results["book_calcom"]["adopted"] is True


@pytest.mark.parametrize("table", ["customers", "appointments"])
def test_a_booking_that_was_brought_along_is_cancelled_when_the_local_part_fails(
    booking, db, simulator, app_engine, table
):
    request = booking()
    uid = _booked_by_phone(simulator, request)
    with refusing(app_engine, table), pytest.raises(SagaException):
        AppointmentCreationSaga.run(request | {"calcom_booking_uid": uid})
    (booked,) = simulator.ledger()
    assert booked["status"] == "cancelled"
    assert saga(db).status() == "compensated"


def test_a_booking_that_does_not_exist_cannot_be_adopted(booking, db, simulator):
    with pytest.raises(SagaException) as caught:
        AppointmentCreationSaga.run(booking(calcom_booking_uid="nosuchbooking"))
    assert reason(caught.value) == "NothingToAdopt"
    assert simulator.ledger() == []
    assert_undone(db, simulator, uid=False)


def test_a_booking_for_another_time_is_neither_adopted_nor_cancelled(booking, db, simulator):
    uid = _booked_by_phone(simulator, booking())
    with pytest.raises(SagaException):
        AppointmentCreationSaga.run(booking(calcom_booking_uid=uid))
    (booked,) = simulator.ledger()
    assert booked["status"] == "accepted", "not what was asked for, so not ours to cancel"
    assert saga(db).status() == "compensated"


def test_a_booking_is_adopted_once(booking, db, simulator):
    request = booking()
    uid = _booked_by_phone(simulator, request)
    AppointmentCreationSaga.run(request | {"calcom_booking_uid": uid})
    with pytest.raises(Exception, match="belongs to another appointment"):
        AppointmentCreationSaga.run(request | {"calcom_booking_uid": uid})
    assert len(simulator.standing()) == 1


def test_a_booking_of_another_saga_is_neither_adopted_nor_cancelled(booking, db, simulator, app_engine):
    """It is made, and not on record yet, when somebody sees it at Cal.com and brings it along."""
    request = booking()
    first = record(AppointmentCreationSaga, request)
    second = []

    def seen(point, saga_id, step):
        if (point, saga_id, step) == (faultpoints.Point.AFTER_CALL, first.id, "book_calcom"):
            (booked,) = simulator.ledger()
            same = {key: request[key] for key in ("event_type_id", "start")}
            second.append(record(AppointmentCreationSaga, booking(**same, calcom_booking_uid=booked["uid"])))

    with faultpoints.installed(seen):
        app_engine.drive(AppointmentCreationSaga, first.id)
    app_engine.drive(AppointmentCreationSaga, second[0].id)
    assert (first.status(), second[0].status()) == ("completed", "compensated")
    assert len(simulator.standing()) == 1


def test_an_adopted_start_is_compared_as_cal_com_keeps_it(booking, db, simulator):
    request = booking()
    uid = _booked_by_phone(simulator, request)
    fraction = {"start": request["start"] + timedelta(microseconds=999)}
    assert AppointmentCreationSaga.run(request | fraction | {"calcom_booking_uid": uid}).calcom_v2_booking_id == uid
