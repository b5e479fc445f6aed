"""One appointment compared with Cal.com because a person asks for it, before reconciling comes to its day."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from sagajobs.booking.alignment import OVER
from sagajobs.booking.follow import AppointmentFollowSaga, Hint
from sagajobs.booking.schema import appointments
from sagajobs.errors import InvalidInput
from sagajobs.saga import SagaHandle
from sagajobs.saga.audit import put_on_record
from sagajobs.saga.operator import signed


def follow_now(appointment_id: int, *, who: str, why: str) -> SagaHandle:
    """Start the saga that asks Cal.com what an appointment's booking is like, and follows; return its handle.

    Args:
        appointment_id: its number.
        who: asks for it.
        why: for those who wonder later.

    Raises:
        InvalidInput: there is no such appointment, it is over, or it has no booking; or it is not said who or why.
        DBAPIError: the database is away; nothing was started.
    """
    by = signed(who, why)
    with Session(AppointmentFollowSaga.engine.database.engine) as db, db.begin():
        row = db.execute(
            select(appointments.c.calcom_v2_booking_id.label("uid"), appointments.c.status).where(
                appointments.c.id == appointment_id, appointments.c.deleted_at.is_(None)
            )
        ).one_or_none()
        if row is None:
            raise InvalidInput(f"there is no appointment {appointment_id}")
        if row.uid is None:
            raise InvalidInput(f"appointment {appointment_id} has no booking at Cal.com that it could follow")
        if row.status in OVER:
            raise InvalidInput(f"appointment {appointment_id} is {row.status}: it follows nothing any more")
        hint = Hint(appointment_id=appointment_id, booking_uid=row.uid, seen="a person asked")
        handle = AppointmentFollowSaga.enqueue(hint, session=db)
        put_on_record(
            db.connection(),
            by,
            "appointment.asked_about",
            entity="appointment",
            entity_id=appointment_id,
            saga_id=handle.id,
        )
    return handle
