"""What a web application calls: with a saga behind it, or, where `saga.enabled` is off, without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from sagajobs.booking.appointment import Appointment, AppointmentSummary
from sagajobs.booking.composite import CompositeBooking, CompositeBookingSaga
from sagajobs.booking.creation import AppointmentCreationSaga
from sagajobs.booking.direct import book_composite_directly, book_directly, sync_directly
from sagajobs.booking.request import Customer, Slot
from sagajobs.booking.services import BookingServices
from sagajobs.booking.sync import AppointmentSyncSaga
from sagajobs.calcom.client import CalcomClient
from sagajobs.saga import Database
from sagajobs.saga.switches import Switch

SAGA_ENABLED = "saga.enabled"
"""Name of the switch."""


class BookingFacade:
    """The appointments of a web application.

    Args:
        database: where they are.
        services: what is needed to book without a saga.
        enabled: the switch; looked at by every call, so that turning it needs no restart.
        quick: returns the Cal.com client of web requests, which somebody waits for; asked at the first use.
    """

    def __init__(
        self, database: Database, services: BookingServices, enabled: Switch, quick: Callable[[], CalcomClient]
    ) -> None:
        self.enabled = enabled
        self._quick = quick
        self._database = database
        self._services = services

    def create_appointment(self, request: BaseModel | Mapping[str, Any]) -> Appointment:
        """Book an appointment here and at Cal.com, and return it.

        Args:
            request: a `BookingRequest`, or a mapping that makes one.

        Raises:
            InvalidInput: the request makes no sense; nothing was written.
            SagaException: it failed and was undone.
            SagaCompensationException: it failed and a person must look at it.
            SagaNotFinished: it takes its time; the workers carry it on.
            StepError: with the switch off instead of these three: it failed, and what it had done by then stands (see
                `sagajobs.booking.direct`).
        """
        if self.enabled.on:
            made: Appointment = AppointmentCreationSaga.run(request)
            return made
        return book_directly(self._database, self._services, request)

    def sync_appointment_to_calcom(
        self, appointment_id: int, operation: str, data: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Change an appointment at Cal.com and here.

        Args:
            appointment_id: the appointment.
            operation: create, update, cancel or reschedule.
            data: what the operation takes (`sagajobs.booking.syncrequest`).

        Returns:
            As `AppointmentSyncSaga.run`. With the switch off `saga_id` is None, nothing will be tried again, and after
            a failure nobody knows whether Cal.com has made the change all the same.

        Raises:
            InvalidInput: it makes no sense; nothing was written.
            SagaCompensationException: critical: a person must look at it, the appointment is marked for it.
        """
        if self.enabled.on:
            return AppointmentSyncSaga.run(appointment_id, operation, data)
        return sync_directly(self._database, self._services, appointment_id, operation, data)

    def book_composite(
        self, customer: Customer | Mapping[str, Any], segments: Sequence[Slot | Mapping[str, Any]]
    ) -> CompositeBooking:
        """Book several appointments here and at Cal.com: all of them, or none.

        Args:
            customer: a `Customer`, or a mapping that makes one.
            segments: 2 to 10 times a `Slot`, or a mapping that makes one.

        Raises:
            InvalidInput: it makes no sense; nothing was written.
            SagaException: a segment failed, and all were undone.
            SagaCompensationException: it failed and a person must look at it.
            SagaNotFinished: it takes its time; the workers carry it on.
            StepError: with the switch off instead of these three: a segment failed, and those before it stand.
        """
        if self.enabled.on:
            return CompositeBookingSaga.run(customer, segments)
        return book_composite_directly(self._database, self._services, customer, segments)

    def find_appointment(self, appointment_id: int) -> AppointmentSummary | None:
        """Return an appointment, None if there is none or it was deleted; from the cache if that has it."""
        return self._services.cache.get(appointment_id)

    def find_free_slots(self, event_type_id: int, first: datetime, last: datetime) -> list[datetime]:
        """Return when an event type can be booked, the first one first, as Cal.com shows it now.

        Nothing is reserved: by the time that it is booked, a slot may be somebody else's.

        Args:
            event_type_id: Cal.com's number for the kind of appointment, booked in its usual length.
            first: aware; the first start that counts.
            last: aware; no start from here on. Cal.com looks a year ahead at the most.

        Raises:
            EventTypeNotFound: Cal.com does not know the event type.
            CalcomError: Cal.com cannot say now, or not within `QUICKLY`.
        """
        return self._quick().free_slots(event_type_id, first, last)
