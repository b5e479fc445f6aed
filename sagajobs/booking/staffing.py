"""Staff: who is Cal.com's host with us, and how changes of one person's day get out of each other's way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sagajobs.booking.schema import staff

SLOT_CONSTRAINT = "ex_appointments_slot"
_SLOT_LOCK = 0x510C


def queue_for(db: Session, staff_id: int | None) -> None:
    """Wait until no other transaction changes a staff member's appointments.

    Two writes that meet in the exclusion constraint wait for each other and deadlock; here they queue.
    """
    if staff_id is not None:
        db.execute(select(func.pg_advisory_xact_lock(_SLOT_LOCK, func.hashint8(staff_id))))


def is_busy(error: IntegrityError) -> bool:
    """Tell whether a write failed because the staff member has another appointment at that time."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None) == SLOT_CONSTRAINT


def of_host(db: Session, host: Mapping[str, Any]) -> int | None:
    """Return the staff member who is a Cal.com host, by Cal.com's number for him or else by e-mail address."""
    matches = [staff.c.calcom_user_id == host["id"]]
    if host["email"]:
        matches.append(func.lower(staff.c.email) == func.lower(host["email"]))
    return db.scalar(
        select(staff.c.id).where(or_(*matches)).order_by((staff.c.calcom_user_id == host["id"]).desc()).limit(1)
    )
