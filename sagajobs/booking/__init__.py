"""The booking domain: appointments, customers, staff, and the sagas that keep them in step with Cal.com."""

from __future__ import annotations

from sagajobs.booking.appointment import Appointment, AppointmentSummary
from sagajobs.booking.compensation import CalcomCompensationService, DatabaseCompensationService
from sagajobs.booking.composite import CompositeBooking, CompositeBookingSaga
from sagajobs.booking.creation import AppointmentCreationSaga
from sagajobs.booking.follow import AppointmentFollowSaga
from sagajobs.booking.request import BookingRequest, Customer, Slot
from sagajobs.booking.sync import AppointmentSyncSaga

__all__ = [
    "Appointment",
    "AppointmentCreationSaga",
    "AppointmentFollowSaga",
    "AppointmentSummary",
    "AppointmentSyncSaga",
    "BookingRequest",
    "CalcomCompensationService",
    "CompositeBooking",
    "CompositeBookingSaga",
    "Customer",
    "DatabaseCompensationService",
    "Slot",
]
