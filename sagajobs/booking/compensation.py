"""The seed's two compensation services: what takes back a booking at Cal.com, and what takes back rows of ours.

Each undo bears repetition, looks again when it is done, and returns the evidence as a receipt.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from sagajobs.booking.cache import AppointmentCache
from sagajobs.booking.local import audit, change_appointment
from sagajobs.booking.outside import LONGEST_TRAIL, MAILS, find_standing
from sagajobs.booking.schema import appointments, composite_bookings
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.errors import AlreadyCancelled, BookingNotFound, CalcomUnavailable
from sagajobs.calcom.models import BookingStatus, Location, LocationType
from sagajobs.calcom.priority import Priority
from sagajobs.errors import PermanentError, StepError
from sagajobs.saga.audit import write_audit_row


class CalcomCompensationService:
    """Takes back what was done at Cal.com.

    Args:
        client: the Cal.com client; its calls are charged as undos.
    """

    def __init__(self, client: CalcomClient) -> None:
        self._client = client.at(Priority.UNDO)

    def cancel_composite_bookings(self, uids: Sequence[str], reason: str) -> dict[str, Any]:
        """Cancel several bookings, and see that all are cancelled; one that fails does not keep the others.

        Args:
            uids: of the bookings as we know them.
            reason: as for `cancel_calcom_booking`.

        Returns:
            The receipt of each, by uid.

        Raises:
            CalcomUnavailable: some are not, or not yet, seen to be cancelled; all can be tried again.
            PermanentError: some are not, and for none of them does it help to try again.
        """
        receipts: dict[str, Any] = {}
        failures: dict[str, StepError] = {}
        for uid in dict.fromkeys(uids):
            try:
                receipts[uid] = self.cancel_calcom_booking(uid, reason)
            except StepError as error:
                failures[uid] = error
        if failures:
            kinds = ", ".join(f"{uid} ({type(error).__name__})" for uid, error in failures.items())
            what = f"{len(failures)} of {len(failures) + len(receipts)} bookings are not cancelled: {kinds}"
            hopeless = all(isinstance(error, PermanentError) for error in failures.values())
            cause = next(iter(failures.values()))
            raise (PermanentError(what) if hopeless else CalcomUnavailable(what)) from cause
        return receipts

    def cancel_calcom_booking(self, uid: str, reason: str) -> dict[str, Any]:
        """Cancel a booking, wherever it has been moved to, and see that it is cancelled.

        A second cancel is refused by Cal.com with a 400, and so is the cancel of a booking that was moved: there the
        live booking stands under its new uid, so the trail is followed before a refusal counts as done.

        Args:
            uid: of the booking as we know it.
            reason: shown to host and attendee; Cal.com demands one from hosts.

        Returns:
            The receipt: the uids that were tried, the status that was read back, and what cannot be taken back: the
            mails in which Cal.com has told attendee and host of the booking and its end.

        Raises:
            CalcomUnavailable: it is not, or not yet, seen to be cancelled; try again.
            CalcomError: as `CalcomClient.cancel_booking`.
        """
        trail = [uid]
        while len(trail) <= LONGEST_TRAIL:
            try:
                with contextlib.suppress(AlreadyCancelled):  # by an earlier try, a person, or a move: the look tells
                    self._client.cancel_booking(trail[-1], reason)
                booking = self._client.get_booking(trail[-1])
            except BookingNotFound:
                # Where it has only just been made, a replica may not show it although the cancel has found it.
                raise CalcomUnavailable(f"booking {trail[-1]} is not to be seen (yet)") from None
            if booking.rescheduled_to_uid is not None:
                trail.append(booking.rescheduled_to_uid)
                continue
            if booking.status not in (BookingStatus.CANCELLED, BookingStatus.REJECTED):
                raise CalcomUnavailable(f"booking {trail[-1]} was cancelled and still reads {booking.status}")
            return {
                "calcom": "cancelled",
                "uids": trail,
                "status_read_back": booking.status,
                "cannot_be_taken_back": [MAILS],
            }
        raise PermanentError(f"booking {uid} was moved more than {LONGEST_TRAIL} times: follow it by hand")

    def restore_booking_metadata(self, uid: str, previous: Mapping[str, Any]) -> dict[str, Any]:
        """Take a booking back to what it was, as far as Cal.com has calls for it, and see that it reads so.

        That is its location. Cal.com never changes metadata, so they need no restoring as long as the booking stands (a
        move carries them over); title, description, notes and attendee likewise; guests stay invited.

        Args:
            uid: of the booking as we know it; it is followed to where it was moved.
            previous: fields as they were: `location` {`type`, `place`}, and any others.

        Returns:
            The receipt: `restored`, names of the fields that read as they were; `not_restored`, those that do not, or
            that nothing can be read of.

        Raises:
            BookingGone: it does not stand any more.
            CalcomUnavailable: it is not, or not yet, seen to be restored; try again.
            CalcomError: as `CalcomClient.set_location`.
        """
        booking = find_standing(self._client, uid)
        location = previous.get("location")
        if location is not None and booking.location != location["place"]:
            self._client.set_location(booking.uid, Location(LocationType(location["type"]), location["place"]))
            booking = find_standing(self._client, booking.uid)
            if booking.location != location["place"]:
                raise CalcomUnavailable(f"booking {booking.uid} was given its location and still reads otherwise")
        as_it_was = {
            "location": location is not None,
            "metadata": all(booking.metadata.get(key) == value for key, value in previous.get("metadata", {}).items()),
            "guests": set(booking.guests) == set(previous.get("guests", ())),
        }
        restored = sorted(name for name in previous if as_it_was.get(name, False))
        return {"uid": booking.uid, "restored": restored, "not_restored": sorted(set(previous) - set(restored))}


class DatabaseCompensationService:
    """Takes back rows of ours.

    Args:
        actor: who the audit trail names.
    """

    def __init__(self, actor: str) -> None:
        self._actor = actor

    def delete_composite_appointment(
        self, db: Session, composite_id: int, *, saga_id: str, reason: str
    ) -> dict[str, Any]:
        """Soft-delete a composite booking with all its appointments, and read them back; repeating it changes nothing.

        Args:
            db: the session of the undo's transaction.
            composite_id: which one.
            saga_id: the saga that is undone.
            reason: for the audit trail.

        Returns:
            The receipt: the composite booking, and the receipt of each appointment.

        Raises:
            PermanentError: something of it still stands.
        """
        columns = composite_bookings.c
        row = db.execute(select(columns.deleted_at).where(columns.id == composite_id).with_for_update()).one()
        parts = db.scalars(
            select(appointments.c.id).where(appointments.c.composite_id == composite_id).order_by(appointments.c.id)
        ).all()
        receipts = [self.delete_appointment(db, part, saga_id=saga_id, reason=reason) for part in parts]
        if row.deleted_at is None:
            db.execute(update(composite_bookings).where(columns.id == composite_id).values(deleted_at=func.saga_now()))
            write_audit_row(
                db,
                actor=self._actor,
                action="composite_booking.deleted",
                entity="composite_booking",
                entity_id=composite_id,
                saga_id=saga_id,
                detail={"reason": reason, "appointments": list(parts)},
            )
        deleted_at = db.scalars(select(columns.deleted_at).where(columns.id == composite_id)).one()
        if deleted_at is None:
            raise PermanentError(f"composite booking {composite_id} still stands after its deletion")
        return {"composite_id": composite_id, "deleted_at": deleted_at.isoformat(), "appointments": receipts}

    def delete_appointment(self, db: Session, appointment_id: int, *, saga_id: str, reason: str) -> dict[str, Any]:
        """Soft-delete an appointment, with an audit row, and read it back; a second time changes nothing.

        Args:
            db: the session of the undo's transaction.
            appointment_id: which one.
            saga_id: the saga that is undone.
            reason: for the audit trail.

        Returns:
            The receipt: the row as read back.

        Raises:
            PermanentError: it still stands.
        """
        row = db.execute(
            select(appointments.c.status, appointments.c.deleted_at, appointments.c.calcom_v2_booking_id)
            .where(appointments.c.id == appointment_id)
            .with_for_update()
        ).one()
        if row.deleted_at is None:
            db.execute(
                update(appointments)
                .where(appointments.c.id == appointment_id)
                .values(
                    status="failed",
                    calcom_sync_status="cancelled",
                    deleted_at=func.saga_now(),
                    updated_at=func.saga_now(),
                )
            )
            audit(
                db,
                actor=self._actor,
                action="appointment.deleted",
                appointment_id=appointment_id,
                saga_id=saga_id,
                detail={"reason": reason, "status_before": row.status},
            )
        left = db.execute(
            select(appointments.c.status, appointments.c.deleted_at).where(appointments.c.id == appointment_id)
        ).one()
        if left.deleted_at is None:
            raise PermanentError(f"appointment {appointment_id} still stands after its deletion")
        return {"appointment_id": appointment_id, "status": left.status, "deleted_at": left.deleted_at.isoformat()}

    def revert_appointment_status(
        self, db: Session, appointment_id: int, before: Mapping[str, Any], *, saga_id: str, reason: str
    ) -> dict[str, Any]:
        """Take an appointment back to the status on record, with an audit row, and read it back.

        A slot that it was to be moved to is free again. A second time changes nothing.

        Args:
            db: the session of the undo's transaction.
            appointment_id: which one.
            before: `status`, `calcom_sync_status` and `sync_saga_id` as they were (`sagajobs.booking.change.snapshot`).
            saga_id: the saga that is undone.
            reason: for the audit trail.

        Returns:
            The receipt: the row as read back.

        Raises:
            PermanentError: it does not read as it was.
        """
        columns = appointments.c
        reverted = {name: before[name] for name in ("status", "calcom_sync_status", "sync_saga_id")}
        shown = [columns.status, columns.calcom_sync_status, columns.sync_saga_id, columns.moving_starts_at]
        row = db.execute(select(*shown).where(columns.id == appointment_id).with_for_update()).one()
        wanted = (*reverted.values(), None)
        if tuple(row) != wanted:
            change_appointment(db, appointment_id, **reverted, moving_starts_at=None, moving_ends_at=None)
            audit(
                db,
                actor=self._actor,
                action="appointment.reverted",
                appointment_id=appointment_id,
                saga_id=saga_id,
                detail={
                    "reason": reason,
                    "status": before["status"],
                    "calcom_sync_status": before["calcom_sync_status"],
                },
            )
        left = db.execute(select(*shown).where(columns.id == appointment_id)).one()
        if tuple(left) != wanted:
            raise PermanentError(f"appointment {appointment_id} does not read as it was before")
        return {"appointment_id": appointment_id, **reverted}

    def invalidate_cache(self, cache: AppointmentCache, appointment_id: int) -> dict[str, Any]:
        """Have web applications read an appointment anew; not critical, as the cache forgets by itself.

        Args:
            cache: what they read from.
            appointment_id: which one; the change to it must be committed by now.

        Returns:
            The receipt: whether there was something to forget.

        Raises:
            TransientError: Redis did not do it.
        """
        return {"appointment_id": appointment_id, "forgotten": cache.invalidate(appointment_id)}
