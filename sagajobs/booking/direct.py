"""Booking without a saga, as the seed's bypass does it: one thing after the other, in the caller's process.

What is lost is what sagas are for. A process that dies in the middle leaves what it had done by then. A call that
failed is not tried again, and one whose outcome is unknown is not looked for. Nothing is undone: a booking that our own
tables refuse stays at Cal.com, and an appointment that Cal.com refused stays `pending` here, and keeps its slot. No
lock keeps two changes of one appointment apart. What reconciling can do, it does: of a booking that no appointment has
a person is told, and one that an appointment has is followed like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sagajobs.booking.appointment import Appointment
from sagajobs.booking.change import snapshot
from sagajobs.booking.changes import change_of
from sagajobs.booking.composite import CompositeBooking, CompositeBookingSaga, composite_request
from sagajobs.booking.creation import AppointmentCreationSaga
from sagajobs.booking.local import (
    assign_host,
    audit,
    find_or_create_customer,
    insert_appointment,
    insert_composite,
    note_booking,
    read_appointment,
    slot_is_taken,
)
from sagajobs.booking.outside import WITHOUT_SAGA, make_booking
from sagajobs.booking.request import Customer, Slot
from sagajobs.booking.services import BookingServices
from sagajobs.booking.sync import DONE, AppointmentSyncSaga
from sagajobs.errors import InvalidInput, StepError, TransientError
from sagajobs.saga import Database

log = logging.getLogger(__name__)


def book_directly(database: Database, services: BookingServices, request: BaseModel | Mapping[str, Any]) -> Appointment:
    """Book an appointment here and at Cal.com, without a saga.

    Raises:
        InvalidInput: the request makes no sense; nothing was written.
        SlotNotFree: the staff member is not free; nothing was written.
        StepError: Cal.com refused, or did not answer; the appointment stands as `pending`.
    """
    # Never on record and never run: it lends its checks, its call and its adoption of a booking that exists.
    creation = AppointmentCreationSaga("", AppointmentCreationSaga.parse(request), {})
    wanted = creation.input
    with Session(database.engine) as db, db.begin():
        creation.check(db)
        customer_id, _ = find_or_create_customer(db, wanted.customer)
        appointment_id = insert_appointment(db, wanted, customer_id, saga_id=None)
    adopts = wanted.calcom_booking_uid is not None
    booking = (adopts and creation.find_booking(_key(appointment_id))) or creation.book_calcom(_key(appointment_id))
    _note(database, services, appointment_id, booking)
    with Session(database.engine) as db:
        return Appointment.load(db, appointment_id)


def book_composite_directly(
    database: Database,
    services: BookingServices,
    customer: Customer | Mapping[str, Any],
    segments: Sequence[Slot | Mapping[str, Any]],
) -> CompositeBooking:
    """Book several appointments here and at Cal.com, without a saga, one after the other.

    Raises:
        InvalidInput: the request makes no sense; nothing was written.
        SlotNotFree: a staff member is not free; nothing was written.
        StepError: Cal.com refused a segment, or did not answer; those before it stand at both sides, and it and those
            after it as `pending` here.
    """
    composite = CompositeBookingSaga("", CompositeBookingSaga.parse(composite_request(customer, segments)), {})
    wanted = composite.input
    with Session(database.engine) as db, db.begin():
        composite.check(db)
        customer_id, _ = find_or_create_customer(db, wanted.customer)
        composite_id, made = insert_composite(db, wanted.segments, customer_id, saga_id=None)
    for appointment_id, segment in zip(made, wanted.segments, strict=True):
        booking = make_booking(services, _key(appointment_id), segment, wanted.customer)
        _note(database, services, appointment_id, booking)
    with Session(database.engine) as db:
        return CompositeBooking.load(db, composite_id)


def sync_directly(
    database: Database,
    services: BookingServices,
    appointment_id: int,
    operation: str,
    data: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Change an appointment at Cal.com and here, without a saga; `AppointmentSyncSaga.run` says what is returned.

    `saga_id` is None, `will_retry` false; of a failure nobody knows whether Cal.com has made the change all the same.

    Raises:
        InvalidInput: it makes no sense; nothing was written.
    """
    request = {"appointment_id": appointment_id, "operation": operation, "data": dict(data or {})}
    sync = AppointmentSyncSaga("", AppointmentSyncSaga.parse(request), {})
    with Session(database.engine) as db:
        sync.check(db)
        row = read_appointment(db, appointment_id)
    if row is None:
        raise InvalidInput(f"appointment_id: there is no appointment {appointment_id} any more", ["appointment_id"])
    change = change_of(services, sync.input.root, snapshot(row))
    outcome: dict[str, Any] = {"success": True, "not_synced": [], "receipt": {}}
    if not change.idle():
        try:
            called = change.call(_key(appointment_id))
            with Session(database.engine) as db, db.begin():
                told = change.apply(db, called)
                _audit(db, services, DONE[sync.input.root.operation], appointment_id, **told)
        except StepError as error:
            outcome = {"success": False, "error": str(error)}
        else:
            outcome |= {"not_synced": called["not_synced"], "receipt": called["receipt"]}
            _forget(services, appointment_id)
    with Session(database.engine) as db:
        appointment = Appointment.load(db, appointment_id)
    return outcome | {"will_retry": False, "saga_id": None, "appointment": appointment}


def _note(database: Database, services: BookingServices, appointment_id: int, booking: Mapping[str, Any]) -> None:
    """Note on an appointment where it is booked, and with whom, if he is free in our books."""
    with Session(database.engine) as db, db.begin():
        note_booking(db, appointment_id, booking)
        try:
            with db.begin_nested():
                assign_host(db, appointment_id, booking["host"])
        except IntegrityError as error:
            if not slot_is_taken(error):
                raise
            log.warning("appointment %s: Cal.com's host is not free in our books, nobody is assigned", appointment_id)
        _audit(db, services, "booked", appointment_id, uid=booking["uid"], adopted=booking["adopted"])
    _forget(services, appointment_id)


def _key(appointment_id: int) -> str:
    """Return what marks a booking as one of ours that no saga has made."""
    return f"{WITHOUT_SAGA}/{appointment_id}"


def _audit(db: Session, services: BookingServices, deed: str, appointment_id: int, **detail: Any) -> None:
    audit(
        db,
        actor=services.actor,
        action=f"appointment.{deed}",
        appointment_id=appointment_id,
        saga_id=None,
        detail={**detail, "saga": False},
    )


def _forget(services: BookingServices, appointment_id: int) -> None:
    """Have the appointment read anew; that it cannot be is no failure, as the cache forgets by itself."""
    try:
        services.cache.invalidate(appointment_id)
    except TransientError as error:
        log.warning("appointment %s: %s", appointment_id, error)
