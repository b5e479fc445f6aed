"""What becomes of a webhook of Cal.com's: a saga that follows, a nudge for one that is in doubt, or nothing.

One short transaction, and no call to Cal.com: it may be waiting for our answer before it gives its own.
"""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Row, and_, cast, or_, select
from sqlalchemy.orm import Session

from sagajobs.booking.alignment import Standing, is_news
from sagajobs.booking.follow import AppointmentFollowSaga, Hint
from sagajobs.booking.local import appointment_lock
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.booking.schema import appointments
from sagajobs.booking.sync import AppointmentSyncSaga
from sagajobs.calcom.models import timestamp
from sagajobs.calcom.webhooks import Webhook
from sagajobs.saga.declaration import base_and_item
from sagajobs.saga.nudge import nudge
from sagajobs.saga.schema import saga_locks, sagas


class Taken(StrEnum):
    """What became of a webhook."""

    FOLLOWED = "followed"
    """A saga looks after it."""
    KNOWN = "known"
    """It was here before, or it tells what we have done ourselves."""
    HINTED = "hinted"
    """A saga of ours did not know whether it has booked, and now looks."""
    IGNORED = "ignored"
    """It is about nothing of ours."""


def take(webhook: Webhook) -> Taken:
    """Act on a webhook, in one transaction; a second time nothing more happens.

    Raises:
        DBAPIError: the database is away; nothing was written.
    """
    with Session(AppointmentFollowSaga.engine.database.engine) as db, db.begin():
        ours = _key(webhook)
        row = _appointment(db, webhook, ours)
        in_doubt = _holders(db, row.id) if row is not None else []
        if ours is not None:
            in_doubt.append(ours[0])
        hinted = nudge(db.connection(), in_doubt)
        if row is None or row.calcom_v2_booking_id is None:
            return Taken.HINTED if hinted else Taken.IGNORED
        if not is_news(webhook.trigger, webhook.uid, Standing(*(getattr(row, name) for name in Standing._fields))):
            return Taken.KNOWN
        hint = Hint(
            appointment_id=row.id,
            booking_uid=webhook.uid,
            trigger=webhook.trigger,
            seen=timestamp(webhook.created_at),
        )
        handle = AppointmentFollowSaga.enqueue(hint, idempotency_key=webhook.key, session=db)
    return Taken.FOLLOWED if handle.created else Taken.KNOWN


def _key(webhook: Webhook) -> tuple[str, int] | None:
    """Return the saga, and the number among its bookings, that made the booking; None if it was none of ours.

    Moving a booking keeps its metadata, so this finds an appointment whose uid is several moves behind.
    """
    saga_id, _, step = webhook.metadata.get(METADATA_KEY, "").partition("/")
    try:
        return str(uuid.UUID(saga_id)), base_and_item(step)[1] or 0
    except ValueError:
        return None


def _appointment(db: Session, webhook: Webhook, ours: tuple[str, int] | None) -> Row[Any] | None:
    """Return the appointment that has the booking, or the one that it was moved from, or that it was made for."""
    has_it = appointments.c.calcom_v2_booking_id == webhook.uid
    uids = [uid for uid in (webhook.uid, webhook.reschedule_uid) if uid is not None]
    # A cancel names no booking that it was moved from, and carries no metadata: while the move is still being followed,
    # nothing but that saga tells whose it is. Left alone, the move's look may come before a replica shows the cancel.
    moving = select(cast(sagas.c.input["appointment_id"].astext, BigInteger)).where(
        sagas.c.name == AppointmentFollowSaga.name,
        sagas.c.next_at.is_not(None),
        sagas.c.input["booking_uid"].astext == webhook.uid,
    )
    candidates: list[ColumnElement[bool]] = [
        appointments.c.calcom_v2_booking_id.in_(uids),
        appointments.c.id.in_(moving),
    ]
    if ours is not None:
        saga_id, number = ours
        candidates.append(and_(appointments.c.saga_id == saga_id, appointments.c.segment == number))
        booked_later = select(cast(sagas.c.input["appointment_id"].astext, BigInteger)).where(
            sagas.c.id == saga_id, sagas.c.name == AppointmentSyncSaga.name
        )
        candidates.append(appointments.c.id == booked_later.scalar_subquery())
    return db.execute(
        select(appointments.c.id, *(appointments.c[name] for name in Standing._fields))
        .where(or_(*candidates), appointments.c.deleted_at.is_(None))
        .order_by(has_it.desc().nulls_last(), appointments.c.calcom_v2_booking_id.in_(uids).desc().nulls_last())
        .limit(1)
    ).first()


def _holders(db: Session, appointment_id: int) -> list[str]:
    """Return the saga at work on an appointment, as a list of one or none."""
    held = select(saga_locks.c.saga_id).where(
        saga_locks.c.resource == appointment_lock(appointment_id), saga_locks.c.held
    )
    return [str(saga_id) for saga_id in db.scalars(held)]
