"""Booking without a saga, as the seed's bypass does it: one thing after the other, in the caller's process.

What is lost is what sagas are for. A process that dies in the middle leaves what it had done by then. A call that
failed is not tried again, and one whose outcome is unknown is not looked for. Nothing is undone: a booking that our own
tables refuse stays at Cal.com, and an appointment that Cal.com refused stays `pending` here, and keeps its slot. No
lock keeps two changes of one appointment apart. Reconciling does not know such a booking from anybody else's, as it
carries the key of no saga; once an appointment has it, it is followed like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sagajobs.booking.appointment import Appointment
from sagajobs.booking.creation import AppointmentCreationSaga
from sagajobs.booking.local import (
    assign_host,
    audit,
    find_or_create_customer,
    insert_appointment,
    note_booking,
    slot_is_taken,
)
from sagajobs.booking.services import BookingServices
from sagajobs.errors import TransientError
from sagajobs.saga import Database

log = logging.getLogger(__name__)


def book_directly(database: Database, services: BookingServices, request: BaseModel | Mapping[str, Any]) -> Appointment:
    """Book an appointment here and at Cal.com, without a saga.

    Raises:
        InvalidInput: the request makes no sense; nothing was written.
        SlotNotFree: the staff member is not free; nothing was written but the customer.
        StepError: Cal.com refused, or did not answer; the appointment stands as `pending`.
    """
    # Never on record and never run: it lends its checks, its call and its adoption of a booking that exists.
    creation = AppointmentCreationSaga("", AppointmentCreationSaga.parse(request), {})
    wanted = creation.input
    with Session(database.engine) as db, db.begin():
        creation.check(db)
        customer_id, _ = find_or_create_customer(db, wanted.customer)
        appointment_id = insert_appointment(db, wanted, customer_id, saga_id=None)
    key = f"direct/{appointment_id}"
    adopted = creation.find_booking(key) if wanted.calcom_booking_uid is not None else None
    booking = adopted or creation.book_calcom(key)
    with Session(database.engine) as db, db.begin():
        note_booking(db, appointment_id, booking)
        try:
            with db.begin_nested():
                assign_host(db, appointment_id, booking["host"])
        except IntegrityError as error:
            if not slot_is_taken(error):
                raise
            log.warning("appointment %s: Cal.com's host is not free in our books, nobody is assigned", appointment_id)
        audit(
            db,
            actor=services.actor,
            action="appointment.booked",
            appointment_id=appointment_id,
            saga_id=None,
            detail={"uid": booking["uid"], "adopted": booking["adopted"], "saga": False},
        )
    _forget(services, appointment_id)
    with Session(database.engine) as db:
        return Appointment.load(db, appointment_id)


def _forget(services: BookingServices, appointment_id: int) -> None:
    """Have the appointment read anew; that it cannot be is no failure, as the cache forgets by itself."""
    try:
        services.cache.invalidate(appointment_id)
    except TransientError as error:
        log.warning("appointment %s: %s", appointment_id, error)
