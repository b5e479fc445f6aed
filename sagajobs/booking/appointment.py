"""`Appointment`: what a caller sees of a row in `appointments`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from sagajobs.booking.schema import appointments


@dataclass(frozen=True, slots=True)
class AppointmentSummary:
    """What web applications read of an appointment; the attributes are the table's columns.

    Cal.com's name for the booking is not among them: whoever knows it can cancel and move the booking without a key, so
    it stays in the database (SPEC G7).
    """

    id: int
    customer_id: int
    staff_id: int | None
    event_type_id: int
    starts_at: datetime
    ends_at: datetime
    status: str
    calcom_sync_status: str


@dataclass(frozen=True, slots=True)
class Appointment(AppointmentSummary):
    """An appointment as it stands in the database, with Cal.com's name for its booking."""

    calcom_v2_booking_id: str | None = field(repr=False)

    @property
    def summary(self) -> AppointmentSummary:
        """What web applications read of it."""
        return AppointmentSummary(*(getattr(self, name) for name in AppointmentSummary.__slots__))

    @classmethod
    def load(cls, db: Session, appointment_id: int) -> Appointment:
        """Return an appointment by its id; it must exist."""
        columns = [appointments.c[column.name] for column in fields(cls)]
        return cls(*db.execute(select(*columns).where(appointments.c.id == appointment_id)).one())
