"""`Appointment`: what a caller sees of a row in `appointments`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from sagajobs.booking.schema import appointments


@dataclass(frozen=True, slots=True)
class Appointment:
    """An appointment as it stands in the database; the attributes are the table's columns."""

    id: int
    customer_id: int
    staff_id: int | None
    event_type_id: int
    starts_at: datetime
    ends_at: datetime
    status: str
    calcom_sync_status: str
    calcom_v2_booking_id: str | None

    @classmethod
    def load(cls, db: Session, appointment_id: int) -> Appointment:
        """Return an appointment by its id; it must exist."""
        columns = [appointments.c[name] for name in cls.__slots__]
        return cls(*db.execute(select(*columns).where(appointments.c.id == appointment_id)).one())
