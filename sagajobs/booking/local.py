"""What booking writes into our own tables: customers, appointments, staff, and the audit trail.

Each function is part of a step's transaction and leaves the commit to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sagajobs.booking.errors import SlotNotFree
from sagajobs.booking.request import Customer, Slot
from sagajobs.booking.schema import appointments, composite_bookings, customers
from sagajobs.calcom.models import BookingStatus
from sagajobs.saga.audit import write_audit_row

SLOT_CONSTRAINT = "ex_appointments_slot"
_SLOT_LOCK = 20748
"""First key of the turns, as in the trigger `appointment_turn` (migration 0002)."""


def appointment_lock(appointment_id: int) -> str:
    """Return the name of the lock on an appointment, for `Saga.locks`."""
    return f"appointment:{appointment_id}"


def is_in_work(db: Session, appointment_id: int) -> bool:
    """Tell whether a saga is at work on an appointment, so that it may soon look different."""
    return bool(
        db.scalar(
            text(
                "SELECT EXISTS (SELECT FROM saga_locks l JOIN sagas g ON g.id = l.saga_id "
                "WHERE l.resource = :resource AND g.ended_at IS NULL)"
            ),
            {"resource": appointment_lock(appointment_id)},
        )
    )


def read_appointment(db: Session, appointment_id: int, *, lock: bool = False) -> Row[Any] | None:
    """Return an appointment's row with its customer's `customer_name`, `customer_email` and so on, None if deleted.

    Args:
        db: the session.
        appointment_id: which one.
        lock: lock the row until the end of the transaction.
    """
    who = [customers.c[name].label(f"customer_{name}") for name in ("name", "email", "phone", "time_zone")]
    wanted = (
        select(appointments, *who)
        .join(customers, customers.c.id == appointments.c.customer_id)
        .where(appointments.c.id == appointment_id, appointments.c.deleted_at.is_(None))
    )
    return db.execute(wanted.with_for_update(of=appointments) if lock else wanted).first()


def change_appointment(db: Session, appointment_id: int, **values: Any) -> None:
    """Change columns of an appointment.

    Raises:
        SlotNotFree: the staff member has another appointment at that time.
    """
    try:
        db.execute(
            update(appointments).where(appointments.c.id == appointment_id).values(**values, updated_at=func.saga_now())
        )
    except IntegrityError as error:
        if slot_is_taken(error):
            raise SlotNotFree(f"the staff member of appointment {appointment_id} is not free at that time") from None
        raise


def mark_for_retry(db: Session, appointment_id: int, saga_id: str) -> bool:
    """Mark an appointment as out of step with Cal.com, by the saga that tries again; False if it is marked already."""
    marked = db.execute(
        update(appointments)
        .where(
            appointments.c.id == appointment_id,
            or_(appointments.c.calcom_sync_status != "error", appointments.c.sync_saga_id.is_distinct_from(saga_id)),
        )
        .values(calcom_sync_status="error", sync_saga_id=saga_id, updated_at=func.saga_now())
        .returning(appointments.c.id)
    )
    return marked.first() is not None


def mark_for_review(db: Session, appointment_id: int) -> None:
    """Mark an appointment as one that a person must look at."""
    db.execute(
        update(appointments)
        .where(appointments.c.id == appointment_id, appointments.c.deleted_at.is_(None))
        .values(calcom_sync_status="manual_review_required", updated_at=func.saga_now())
    )


def mark_settled(db: Session, appointment_id: int, saga_id: str, *, in_step: bool = False) -> None:
    """Mark an appointment as one that nobody is asked about any more; one that a person or a remedy has marked stays.

    Args:
        db: the session.
        appointment_id: which one.
        saga_id: the saga that a person was asked about. While it goes on, the appointment is its; has it ended without
            another word, or been abandoned, reconciling finds that nobody is at work on an appointment out of step.
        in_step: it is as Cal.com has it all the same.
    """
    marked = {"calcom_sync_status": "synced"} if in_step else {"calcom_sync_status": "error", "sync_saga_id": saga_id}
    db.execute(
        update(appointments)
        .where(appointments.c.id == appointment_id, appointments.c.calcom_sync_status == "manual_review_required")
        .values(**marked, updated_at=func.saga_now())
    )


def find_or_create_customer(db: Session, who: Customer) -> tuple[int, bool]:
    """Find a customer by e-mail address or create one; two at once get the same row (the seed's RC5).

    Returns:
        The customer's id, and whether it is new.
    """
    created = db.scalar(
        insert(customers)
        .values(name=who.name, email=who.email, phone=who.phone, time_zone=who.time_zone)
        .on_conflict_do_nothing(index_elements=[func.lower(customers.c.email)])
        .returning(customers.c.id)
    )
    if created is not None:
        return created, True
    # Lower case is the database's own, as in its index: Python's differs outside ASCII.
    known = db.scalars(select(customers.c.id).where(func.lower(customers.c.email) == func.lower(who.email))).one()
    return known, False


def take_turns_for_staff(db: Session, staff_id: int) -> None:
    """Let writes of one staff member's slots queue until the end of the transaction.

    Two that meet in the exclusion constraint may wait for each other and deadlock, so a trigger has each write wait for
    its turn. Whoever writes slots of several staff members takes the turns beforehand, in the order of their numbers.
    """
    db.execute(select(func.pg_advisory_xact_lock(_SLOT_LOCK, func.hashint8(staff_id))))


def insert_appointment(db: Session, slot: Slot, customer_id: int, saga_id: str | None, **more: Any) -> int:
    """Insert an appointment as `pending`; the database defends its slot (the seed's RC3).

    Args:
        db: the session.
        slot: what is booked.
        customer_id: for whom.
        saga_id: the saga that books it, None without one.
        more: further columns.

    Raises:
        SlotNotFree: the staff member has another appointment at that time.
    """
    try:
        number: int = db.scalars(
            insert(appointments)
            .values(
                customer_id=customer_id,
                staff_id=slot.staff_id,
                event_type_id=slot.event_type_id,
                starts_at=slot.start,
                ends_at=slot.end,
                notes=slot.notes,
                saga_id=saga_id,
                **more,
            )
            .returning(appointments.c.id)
        ).one()
    except IntegrityError as error:
        if slot_is_taken(error):
            raise SlotNotFree(f"staff member {slot.staff_id} is not free at that time") from None
        raise
    return number


def insert_composite(
    db: Session, segments: Sequence[Slot], customer_id: int, saga_id: str | None
) -> tuple[int, list[int]]:
    """Insert a composite booking with its appointments, all as `pending`.

    Returns:
        Its id, and the appointments' in the order of the segments.

    Raises:
        SlotNotFree: one of the staff members has another appointment at that time.
    """
    composite_id: int = db.scalars(
        insert(composite_bookings).values(customer_id=customer_id, saga_id=saga_id).returning(composite_bookings.c.id)
    ).one()
    for staff_id in sorted({segment.staff_id for segment in segments if segment.staff_id is not None}):
        take_turns_for_staff(db, staff_id)
    made = [
        insert_appointment(db, segment, customer_id, saga_id, composite_id=composite_id, segment=number)
        for number, segment in enumerate(segments)
    ]
    return composite_id, made


def slot_is_taken(error: IntegrityError) -> bool:
    """Tell whether it is the slot's constraint that refused a write."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None) == SLOT_CONSTRAINT


def note_booking(db: Session, appointment_id: int, booking: Mapping[str, Any]) -> None:
    """Note on an appointment where it is booked; `booking` is an essence (`sagajobs.booking.outside`)."""
    accepted = booking["status"] == BookingStatus.ACCEPTED
    db.execute(
        update(appointments)
        .where(appointments.c.id == appointment_id)
        .values(
            calcom_v2_booking_id=booking["uid"],
            calcom_sync_status="synced",
            status="scheduled" if accepted else "pending",
            sync_saga_id=None,
            updated_at=func.saga_now(),
        )
    )


def note_move(db: Session, appointment_id: int, booking: Mapping[str, Any]) -> None:
    """Note on an appointment that its booking has moved; `booking` tells where to (`sagajobs.booking.outside.seen`)."""
    accepted = booking["status"] == BookingStatus.ACCEPTED
    change_appointment(
        db,
        appointment_id,
        calcom_v2_booking_id=booking["uid"],
        calcom_sync_status="synced",
        status="rescheduled" if accepted else "pending",
        starts_at=datetime.fromisoformat(booking["start"]),
        ends_at=datetime.fromisoformat(booking["end"]),
        moving_starts_at=None,
        moving_ends_at=None,
        sync_saga_id=None,
    )


def note_cancellation(db: Session, appointment_id: int) -> None:
    """Note on an appointment that its booking is gone."""
    db.execute(
        update(appointments)
        .where(appointments.c.id == appointment_id)
        .values(calcom_sync_status="cancelled", updated_at=func.saga_now())
    )


def assign_host(db: Session, appointment_id: int, host: Mapping[str, Any] | None) -> dict[str, Any]:
    """Assign the staff member whom Cal.com chose as host; that nobody matches is no failure."""
    return assign_match(db, appointment_id, match_hosts(db, [host])[0])


def match_hosts(db: Session, hosts: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """Return for each of Cal.com's hosts, as `staff_id`, who it is among our staff; where it is nobody, a `reason`."""
    ours = staff_of_hosts(db, [host for host in hosts if host is not None])
    return [_match(ours, host) for host in hosts]


def _match(ours: Mapping[int, int], host: Mapping[str, Any] | None) -> dict[str, Any]:
    if host is None:
        return {"staff_id": None, "reason": "Cal.com named no host"}
    if host["id"] not in ours:
        return {"staff_id": None, "reason": "no staff member matches Cal.com's host"}
    return {"staff_id": ours[host["id"]]}


def assign_match(db: Session, appointment_id: int, match: dict[str, Any]) -> dict[str, Any]:
    """Assign whom `match_hosts` has found, if it is anybody; return the match."""
    staff_id = match["staff_id"]
    if staff_id is not None:
        db.execute(
            update(appointments)
            .where(appointments.c.id == appointment_id, appointments.c.staff_id.is_distinct_from(staff_id))
            .values(staff_id=staff_id, updated_at=func.saga_now())
        )
    return match


_STAFF_OF_HOSTS = text("""
    SELECT DISTINCT ON (h.id) h.id AS host, s.id AS staff
    FROM unnest(CAST(:ids AS bigint[]), CAST(:emails AS text[])) AS h (id, email)
    JOIN staff s ON s.calcom_user_id = h.id OR lower(s.email) = lower(h.email)
    ORDER BY h.id, (s.calcom_user_id = h.id) DESC NULLS LAST
""")


def staff_of_hosts(db: Session | Connection, hosts: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Return which staff member is which host at Cal.com, by its number for him or else by e-mail address.

    Args:
        db: a session or a connection.
        hosts: `id` and `email`, if it is known, of each.

    Returns:
        Numbers of staff members by those of hosts; a host who is none of them is not in it.
    """
    if not hosts:
        return {}
    known = {"ids": [host["id"] for host in hosts], "emails": [host["email"] for host in hosts]}
    return {row.host: row.staff for row in db.execute(_STAFF_OF_HOSTS, known)}


def audit(
    db: Session, *, actor: str, action: str, appointment_id: int, saga_id: str | None, detail: dict[str, Any]
) -> None:
    """Write an audit row about an appointment, in the transaction of what it tells of."""
    write_audit_row(
        db,
        actor=actor,
        action=action,
        entity="appointment",
        entity_id=appointment_id,
        saga_id=saga_id,
        detail=detail,
    )
