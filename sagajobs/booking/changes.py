"""The four changes of an appointment that Cal.com is told of (docs/design.md, Sync).

Each knows its call, how to see that it got through, and what becomes of the appointment here.

Cal.com cannot change everything. What a booking was made with (`FIXED`) stays; a cancelled one stays cancelled; a moved
one has another uid; a guest stays invited; and every change mails people. What that means for a change stands in its
result: `not_synced`, and in the `receipt` what is `fixed` and what `cannot_be_taken_back`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from sagajobs.booking.change import STANDING_HERE, Change
from sagajobs.booking.errors import BookingGone, NotMoved
from sagajobs.booking.local import change_appointment, note_booking, note_move
from sagajobs.booking.outside import (
    LONGEST_TRAIL,
    MAILS,
    STANDING,
    find_last,
    find_made,
    find_standing,
    make_booking,
    seen,
    slot_problems,
)
from sagajobs.booking.request import Customer, Slot
from sagajobs.booking.services import BookingServices
from sagajobs.booking.syncrequest import (
    CancelData,
    CreateData,
    Request,
    RescheduleData,
    SyncOperation,
    UpdateData,
    mailbox,
)
from sagajobs.calcom.errors import (
    AlreadyCancelled,
    AlreadyRescheduled,
    BookingNotFound,
    CalcomRefused,
    CalcomUnavailable,
    RefusalInDoubt,
)
from sagajobs.calcom.models import Booking
from sagajobs.calcom.operations import (
    ADD_GUESTS,
    CANCEL_BOOKING,
    CREATE_BOOKING,
    RESCHEDULE_BOOKING,
    SET_LOCATION,
    Operation,
)

FIXED = ("attendee", "description", "metadata", "notes", "title")
"""What Cal.com's API v2 has no call to change, once a booking is made."""

CANCELLED_BY_REQUEST = "The appointment was cancelled."
MOVED_BY_REQUEST = "The appointment was moved."


class Creation(Change[CreateData]):
    """Book an appointment that exists here only."""

    calls = (CREATE_BOOKING,)

    needs_booking = False

    def problems(self) -> list[str]:
        """Return what keeps it from being booked: a booking, a status."""
        status, uid = self.before["status"], self.before["uid"]
        if uid is not None:
            return [f"appointment_id: appointment {self.appointment_id} is booked at Cal.com already, as {uid}"]
        if status not in ("pending", "failed"):
            return [f"appointment_id: appointment {self.appointment_id} is {status}"]
        return []

    def untimely(self) -> list[str]:
        """Return what keeps its row from being a booking: its time, its event type, its customer's data."""
        if self.starts_at <= datetime.now(UTC):
            return [f"appointment_id: appointment {self.appointment_id} starts in the past"]
        try:
            slot = self._slot
            _ = self._customer
        except ValidationError as error:
            where = f"appointment_id: appointment {self.appointment_id}"
            return [
                f"{where}: {'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors(include_input=False, include_url=False, include_context=False)
            ]
        return slot_problems(self.services, slot)

    def until(self) -> datetime:
        """Return its start: nobody is helped by a booking that is made after it."""
        return self.starts_at

    def call(self, key: str) -> dict[str, Any]:
        """Book, with our key in the booking's metadata."""
        return self._made(make_booking(self.services, key, self._slot, self._customer))

    def find(self, key: str) -> dict[str, Any] | None:
        """Look for the booking under our key."""
        found = find_made(self.services, key, self._slot, self._customer)
        return None if found is None else self._made(found)

    def find_made_by_hand(self, uid: str, key: str) -> dict[str, Any] | None:
        """Look whether a booking that somebody has made is the one that is wanted."""
        booking = self._made_by_hand(uid, self.starts_at, key)
        return None if booking is None else self._made(seen(booking))

    def apply(self, db: Session, booking: Mapping[str, Any]) -> dict[str, Any]:
        """Note where it is booked, and with whom."""
        note_booking(db, self.appointment_id, booking)
        self._assign_host(db, booking)
        return {"uid": booking["uid"]}

    def _made(self, booking: dict[str, Any]) -> dict[str, Any]:
        receipt = {"uid": booking["uid"], "fixed": list(FIXED), "cannot_be_taken_back": [MAILS]}
        return booking | {"not_synced": [], "receipt": receipt}

    @property
    def _slot(self) -> Slot:
        return Slot(
            event_type_id=self.before["event_type_id"],
            start=self.starts_at,
            duration_minutes=round((self.ends_at - self.starts_at).total_seconds() / 60),
            notes=self.before["notes"],
        )

    @property
    def _customer(self) -> Customer:
        return Customer(
            name=self.before["customer_name"],
            email=self.before["customer_email"],
            phone=self.before["customer_phone"],
            time_zone=self.before["customer_time_zone"],
        )


class Update(Change[UpdateData]):
    """Change an appointment in its place: location and guests at Cal.com, notes here only."""

    @property
    def calls(self) -> tuple[Operation, ...]:
        """Those with limits of their own: a read before them would be in vain, and again the next time."""
        mailing = (ADD_GUESTS,) if self.data.guests else ()
        return mailing if self.data.location is None else (*mailing, SET_LOCATION)

    @property
    def may_stand(self) -> tuple[str, ...]:
        """Guests, where the location comes after them: nobody takes them off again if that is given up."""
        return ("guests",) if self.data.guests and self.data.location is not None else ()

    def call(self, key: str) -> dict[str, Any]:  # noqa: ARG002 - what it changes carries no key
        """Invite the guests that are not invited yet, then set the location where it differs.

        Guests first: their call is the one with a reason to be refused, and nothing has been changed then. A location
        that is refused after guests were invited is no failure of the whole, as nobody can be taken off again.
        """
        if not self.calls:
            return self._unchanged()
        client, refused = self._client, False
        booking = find_standing(client, self.before["uid"])
        missing = self._missing(booking)
        if missing:
            client.add_guests(booking.uid, missing)
        place = self.data.location
        if place is not None and booking.location != place.place:
            try:
                client.set_location(booking.uid, place.as_location())
            except (CalcomRefused, RefusalInDoubt):
                if not self.data.guests:
                    raise
                refused = True
        return self._changed(booking, refused=refused)

    def find(self, key: str) -> dict[str, Any] | None:  # noqa: ARG002 - what it changes carries no key
        """Look whether location and guests read as wanted."""
        if not self.calls:
            return self._unchanged()
        booking = find_standing(self._looking, self.before["uid"])
        place = self.data.location
        done = not self._missing(booking) and (place is None or booking.location == place.place)
        return self._changed(booking, refused=False) if done else None

    def apply(self, db: Session, booking: Mapping[str, Any]) -> dict[str, Any]:
        """Note location, guests and notes; the status stays.

        So does the uid, even of a booking that was moved meanwhile: uid and times change together, when the move is
        followed, and a webhook about a uid that the row has already would be taken for an echo.
        """
        values: dict[str, Any] = {}
        if self.data.location is not None and "location" not in booking["not_synced"]:
            values["location"] = self.data.location.place
        if self.data.guests:
            known = {mailbox(email): email for email in self.before["guests"]}
            values["guests"] = list({**{mailbox(email): email for email in self.data.guests}, **known}.values())
        if self.data.notes is not None:
            values["notes"] = self.data.notes
        change_appointment(
            db,
            self.appointment_id,
            calcom_v2_booking_id=self.before["uid"],
            calcom_sync_status="synced",
            sync_saga_id=None,
            **values,
        )
        return {"uid": booking["uid"], "fields": sorted(values)}

    def _missing(self, booking: Booking) -> list[str]:
        attending = {mailbox(email) for email in booking.guests}
        attending |= {mailbox(person.email) for person in booking.attendees if person.email}
        return [email for email in self.data.guests if mailbox(email) not in attending]

    def _unchanged(self) -> dict[str, Any]:
        return {"uid": self.before["uid"], "not_synced": ["notes"], "receipt": {"fixed": list(FIXED)}}

    def _changed(self, booking: Booking, *, refused: bool) -> dict[str, Any]:
        not_synced = ["location"] if refused else []
        not_synced += [] if self.data.notes is None else ["notes"]
        final = ["guests", MAILS] if self.data.guests else [MAILS]
        receipt = {"uid": booking.uid, "fixed": list(FIXED), "cannot_be_taken_back": final}
        return seen(booking) | {"not_synced": not_synced, "receipt": receipt}


class Cancellation(Change[CancelData]):
    """Cancel an appointment, wherever its booking has been moved to."""

    calls = (CANCEL_BOOKING,)

    def idle(self) -> bool:
        """Tell whether it is cancelled already, here and there: asked for twice, it is done once."""
        return (self.before["status"], self.before["calcom_sync_status"]) == ("cancelled", "cancelled")

    def problems(self) -> list[str]:
        """Return what keeps it from being cancelled; one that is cancelled here may still stand at Cal.com."""
        if self.before["status"] == "cancelled" and self.before["uid"] is not None:
            return []
        return super().problems()

    def call(self, key: str) -> dict[str, Any]:  # noqa: ARG002 - a cancel carries no key
        """Cancel, following the trail of a booking that was moved: its old uid is refused as cancelled, too."""
        client, trail = self._client, [self.before["uid"]]
        while True:
            try:
                booking = client.cancel_booking(trail[-1], self.data.reason or CANCELLED_BY_REQUEST)
            except AlreadyCancelled:
                booking = find_last(client, trail[-1])
                if booking.status in STANDING:
                    if booking.uid in trail or len(trail) > LONGEST_TRAIL:
                        raise CalcomUnavailable(
                            f"booking {booking.uid} is cancelled and still reads standing"
                        ) from None
                    trail.append(booking.uid)
                    continue
            except BookingNotFound:
                raise CalcomUnavailable(f"booking {trail[-1]} is not to be seen (yet)") from None
            return self._cancelled(booking)

    def find(self, key: str) -> dict[str, Any] | None:  # noqa: ARG002 - a cancel carries no key
        """Look whether the booking, wherever it has been moved to, is cancelled or declined."""
        booking = find_last(self._looking, self.before["uid"])
        return None if booking.status in STANDING else self._cancelled(booking)

    def apply(self, db: Session, booking: Mapping[str, Any]) -> dict[str, Any]:
        """Note that it is cancelled; its slot is free."""
        change_appointment(
            db,
            self.appointment_id,
            calcom_v2_booking_id=booking["uid"],
            calcom_sync_status="cancelled",
            status="cancelled",
            sync_saga_id=None,
        )
        return {"uid": booking["uid"]}

    def _cancelled(self, booking: Booking) -> dict[str, Any]:
        receipt = {"uid": booking.uid, "cannot_be_taken_back": ["cancellation", MAILS]}
        return seen(booking) | {"not_synced": [], "receipt": receipt}


class Move(Change[RescheduleData]):
    """Move an appointment; Cal.com makes a new booking of it, with a new uid."""

    calls = (RESCHEDULE_BOOKING,)

    def untimely(self) -> list[str]:
        """Return what is wrong with the new time."""
        return ["data.start: lies in the past"] if self.data.start <= datetime.now(UTC) else []

    def idle(self) -> bool:
        """Tell whether it stands at the wanted time already, here and there."""
        standing = self.before["status"] in STANDING_HERE and self.before["calcom_sync_status"] == "synced"
        return standing and self.starts_at == self.data.start

    def until(self) -> datetime:
        """Return the new start: nobody is helped by a move that is confirmed after it."""
        return self.data.start

    @property
    def ends_later(self) -> datetime:
        """When the appointment ends once it is moved: the duration stays."""
        return self.data.start + (self.ends_at - self.starts_at)

    def call(self, key: str) -> dict[str, Any]:  # noqa: ARG002 - a move carries no key: the metadata stay
        """Move the booking as it stands, unless it has got to the wanted time before, by ourselves or by others."""
        client, uid = self._client, self.before["uid"]
        for _ in range(LONGEST_TRAIL):
            try:
                moved = client.reschedule_booking(
                    uid,
                    self.data.start,
                    reason=self.data.reason or MOVED_BY_REQUEST,
                    rescheduled_by=self.data.rescheduled_by,
                )
            except AlreadyRescheduled:
                booking = find_standing(client, uid)
                if booking.start == self.data.start:
                    return self._moved(booking)
                if booking.uid == uid:
                    raise CalcomUnavailable(f"booking {uid} was moved, and it is not to be seen yet where to") from None
                uid = booking.uid
            except BookingNotFound:
                # Also said of one that was declined.
                find_standing(client, uid)
                raise CalcomUnavailable(f"booking {uid} stands, and was not found to be moved") from None
            except AlreadyCancelled as error:
                raise BookingGone(str(error)) from error
            else:
                if moved.rescheduled_from_uid != uid:
                    # Where bookings are confirmed first: the attendee's other booking of that time.
                    raise NotMoved(f"Cal.com answered with booking {moved.uid}, which did not take the place of {uid}")
                return self._moved(moved)
        raise CalcomUnavailable(f"booking {self.before['uid']} is moved as often as it is looked for")

    def find(self, key: str) -> dict[str, Any] | None:  # noqa: ARG002 - a move carries no key
        """Look whether the old uid leads to a booking at the wanted time."""
        booking = find_standing(self._looking, self.before["uid"])
        return self._moved(booking) if booking.start == self.data.start else None

    def find_made_by_hand(self, uid: str, key: str) -> dict[str, Any] | None:
        """Look whether it was moved, or cancelled and booked anew for the wanted time."""
        last = find_last(self._looking, self.before["uid"])
        if last.status in STANDING:
            return self.find(key)
        booking = self._made_by_hand(uid, self.data.start, key)
        return None if booking is None else self._moved(booking)

    def apply(self, db: Session, booking: Mapping[str, Any]) -> dict[str, Any]:
        """Note the new times and the new uid; the old slot is free."""
        note_move(db, self.appointment_id, booking)
        self._assign_host(db, booking)
        return {
            "uid": booking["uid"],
            "uid_before": self.before["uid"],
            "start": booking["start"],
            "start_before": self.before["starts_at"],
        }

    def _moved(self, booking: Booking) -> dict[str, Any]:
        receipt = {
            "uid": booking.uid,
            "uid_before": self.before["uid"],
            "fixed": list(FIXED),
            "cannot_be_taken_back": [MAILS, "uid"],
        }
        return seen(booking) | {"not_synced": [], "receipt": receipt}


CHANGES: Mapping[SyncOperation, type[Change[Any]]] = {
    SyncOperation.CREATE: Creation,
    SyncOperation.UPDATE: Update,
    SyncOperation.CANCEL: Cancellation,
    SyncOperation.RESCHEDULE: Move,
}


def change_of(services: BookingServices, request: Request, before: Mapping[str, Any]) -> Change[Any]:
    """Return the change that a request asks for."""
    return CHANGES[request.operation](services, request.appointment_id, before, request.data)
