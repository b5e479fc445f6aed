"""What webhooks tell: one trigger with its payload for each thing that happens to a booking.

They differ in more than their names. Only some carry the metadata of the booking, and the one that follows a
confirmation carries its video link alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sagajobs.calcom.simulator.output import VIDEO

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sagajobs.calcom.simulator.ledger import Person, Row
    from sagajobs.calcom.simulator.world import World

SENT = (
    "BOOKING_CREATED",
    "BOOKING_REQUESTED",
    "BOOKING_RESCHEDULED",
    "BOOKING_CANCELLED",
    "BOOKING_REJECTED",
    "BOOKING_NO_SHOW_UPDATED",
)
"""The triggers that the simulator fires."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell; `uid` is the booking's."""

    trigger: str
    uid: str
    payload: dict[str, Any]


def made(row: Row, world: World) -> Notice:
    """Tell of a new booking, which may have to be confirmed first."""
    if row.status == "pending":
        return Notice("BOOKING_REQUESTED", row.uid, _booking(row, world, "PENDING") | {"metadata": dict(row.metadata)})
    return Notice("BOOKING_CREATED", row.uid, _booking(row, world, "ACCEPTED") | {"metadata": _metadata(row)})


def confirmed(row: Row, world: World) -> Notice:
    """Tell of a confirmation: as of a new booking, but without the metadata that it was made with."""
    payload = _booking(row, world, "ACCEPTED") | {"metadata": _video(row)}
    return Notice("BOOKING_CREATED", row.uid, payload)


def moved(new: Row, old: Row, world: World) -> Notice:
    """Tell of a move, under the new uid; of the old booking nothing is told. A pending one is only requested."""
    if new.status == "pending":
        return made(new, world)
    payload = _booking(new, world, "ACCEPTED") | {
        "metadata": _metadata(new),
        "rescheduleId": old.id,
        "rescheduleUid": old.uid,
        "rescheduleStartTime": _moment(old.start),
        "rescheduleEndTime": _moment(old.end),
    }
    if new.rescheduled_by:
        payload["rescheduledBy"] = new.rescheduled_by
    return Notice("BOOKING_RESCHEDULED", new.uid, payload)


def cancelled(row: Row, world: World, *, reason: str, by: str) -> Notice:
    """Tell of a cancellation, without metadata; the row still stands when this is told."""
    payload = _booking(row, world, "CANCELLED") | {"cancellationReason": reason, "requestReschedule": False}
    if by:
        payload["cancelledBy"] = by
    return Notice("BOOKING_CANCELLED", row.uid, payload)


def rejected(row: Row, world: World) -> Notice:
    """Tell of a decline, without metadata."""
    payload = _booking(row, world, "REJECTED")
    if row.rejection_reason:
        payload["rejectionReason"] = row.rejection_reason
    return Notice("BOOKING_REJECTED", row.uid, payload)


def absent(row: Row, people: Sequence[Person]) -> Notice:
    """Tell who did not come."""
    if len(people) == 1:
        (one,) = people
        message = f"{one.email} {'marked' if one.absent else 'unmarked'} as no-show"
    else:
        message = "No-show status updated"
    payload = {
        "message": message,
        "bookingUid": row.uid,
        "bookingId": row.id,
        "attendees": [{"email": one.email, "noShow": one.absent} for one in people],
    }
    return Notice("BOOKING_NO_SHOW_UPDATED", row.uid, payload)


def _booking(row: Row, world: World, status: str) -> dict[str, Any]:
    event_type = world.event_type(row.event_type_id)
    host = world.host(row.host_id)
    notes = str(row.responses.get("notes", ""))
    return {
        "type": event_type.slug if event_type else "",
        "title": row.title,
        "description": notes,
        "additionalNotes": notes,
        "customInputs": {},
        "startTime": _moment(row.start),
        "endTime": _moment(row.end),
        "organizer": {
            "id": host.id,
            "name": host.name,
            "email": host.email,
            "username": host.username,
            "timeZone": host.time_zone,
            "language": {"locale": "en"},
            "utcOffset": _offset(host.time_zone, row.start),
        },
        "responses": _responses(row),
        "userFieldsResponses": {},
        "attendees": [_attendee(one, row.start) for one in row.people],
        "location": row.location,
        "destinationCalendar": None,
        "iCalUID": row.ics_uid,
        "uid": row.uid,
        "bookingId": row.id,
        "eventTypeId": row.event_type_id,
        "eventTitle": event_type.title if event_type else "",
        "eventDescription": "",
        "requiresConfirmation": bool(event_type and event_type.requires_confirmation),
        "price": 0,
        "currency": "usd",
        "length": round((row.end - row.start).total_seconds() / 60),
        "status": status,
    }


def _responses(row: Row) -> dict[str, Any]:
    given = {
        "name": row.attendee.name,
        "email": row.attendee.email,
        "guests": [one.email for one in row.guests],
        **row.responses,
    }
    return {name: {"label": name, "value": value, "isHidden": False} for name, value in given.items()}


def _attendee(one: Person, at: datetime) -> dict[str, Any]:
    first, _, last = one.name.partition(" ")
    shown = {
        "name": one.name,
        "firstName": first,
        "lastName": last,
        "email": one.email,
        "timeZone": one.time_zone,
        "language": {"locale": one.language},
        "utcOffset": _offset(one.time_zone, at),
    }
    if one.phone:
        shown["phoneNumber"] = one.phone
    return shown


def _metadata(row: Row) -> dict[str, str]:
    return {**row.metadata, **_video(row)}


def _video(row: Row) -> dict[str, str]:
    given = row.metadata.get("videoCallUrl") or (row.location if row.location.startswith(VIDEO) else None)
    return {"videoCallUrl": given} if given else {}


def _offset(zone: str, at: datetime) -> int:
    """Return minutes east of UTC."""
    offset = at.astimezone(ZoneInfo(zone)).utcoffset()
    return round(offset.total_seconds() / 60) if offset else 0


def _moment(value: datetime) -> str:
    """Write a point in time as webhooks do: without milliseconds, unlike the API."""
    return value.isoformat(timespec="seconds").replace("+00:00", "Z")
