"""A booking at Cal.com under our key: made, found again, described by what later steps need of it.

Cal.com takes no idempotency key and keeps metadata for good, so the key of the step that books travels in a booking's
metadata, and whoever doubts whether a call got through looks for it there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sagajobs.booking.errors import AlreadyBooked, BookingGone
from sagajobs.booking.request import Customer, Slot
from sagajobs.booking.services import AWAY_FOR, BookingServices
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.errors import BadCredentials, BookingNotFound, CalcomUnavailable, EventTypeNotFound
from sagajobs.calcom.models import Booking, BookingStatus, NewBooking
from sagajobs.calcom.operations import CREATE_BOOKING
from sagajobs.calcom.priority import Priority
from sagajobs.errors import Deferred, EffectGone
from sagajobs.saga import RetryPolicy

METADATA_KEY = "sagajobs_key"
"""Under this key a booking's metadata carries ours."""

WITHOUT_SAGA = "direct"
"""What stands in our key in place of a saga, before the number of the appointment, where there was none."""

CALCOM_RETRY = RetryPolicy(max_attempts=5, base=0.5, max_delay=60.0)
"""Five calls over some ten seconds: somebody is waiting for the confirmation."""

CALCOM_UNDO_RETRY = RetryPolicy(max_attempts=10, base=1.0, max_delay=600.0, transient=(BadCredentials,))
"""Ten tries over some twenty minutes; a wrong API key is a mistake of operation, so it is waited out too."""

MAILS = "mails"
"""What nobody takes back: Cal.com writes to attendee and host about everything that is done to a booking."""

CANCEL_REASON = "The appointment could not be completed."

STANDING = (BookingStatus.ACCEPTED, BookingStatus.PENDING)
"""Statuses of a booking that is there."""

LONGEST_TRAIL = 50
"""Moves that are followed from a booking to the one that took its place: more is a circle."""


def away(saga: Any) -> float:
    """Return the seconds for which Cal.com is not called anyway, for a step's `hold`; 0 to go ahead.

    A step's undo and its probe are held as well. So it is asked for the most urgent call: what stops that one (the
    circuit is open, Cal.com blocks the key) stops all of them.
    """
    services: BookingServices = saga.services
    return services.calcom.at(Priority.UNDO).hold()


def turn_to_book(services: BookingServices, slot: Slot) -> float:
    """Return the seconds until the quota may have a call left to book a slot, for a step's `turn`; 0 to go ahead."""
    return services.calcom.at(Priority.of(slot.start, datetime.now(UTC))).turn(CREATE_BOOKING)


def make_booking(services: BookingServices, key: str, slot: Slot, customer: Customer) -> dict[str, Any]:
    """Book at Cal.com, with our key in the booking's metadata; return its essence.

    Raises:
        Deferred: Cal.com cannot even say now which lengths the event type has; nothing was tried.
        AlreadyBooked: it answered with an earlier booking, which is not ours.
        CalcomError: as `CalcomClient.create_booking`.
    """
    event_type = services.event_types.get(slot.event_type_id)
    if event_type is None:
        raise Deferred("Cal.com does not answer", retry_after=AWAY_FOR)
    priority = Priority.of(slot.start, datetime.now(UTC))
    booking = services.calcom.at(priority).create_booking(
        NewBooking(
            event_type_id=slot.event_type_id,
            start=slot.start,
            attendee_name=customer.name,
            attendee_email=customer.email,
            attendee_phone=customer.phone,
            attendee_time_zone=customer.time_zone,
            # Refused with a 400 where the event type has one length only.
            length_in_minutes=slot.duration_minutes if len(event_type.lengths) > 1 else None,
            notes=slot.notes,
            metadata={METADATA_KEY: key},
        )
    )
    if booking.metadata.get(METADATA_KEY) != key:
        # For an event type that is confirmed first, Cal.com answers with the same attendee's earlier booking of the
        # same time: it is not ours, and undoing this saga must not cancel it.
        raise AlreadyBooked(f"Cal.com has booking {booking.uid} of this customer for this time already")
    return essence(booking, adopted=False)


def find_made(services: BookingServices, key: str, slot: Slot, customer: Customer) -> dict[str, Any] | None:
    """Look for the booking under our key; return its essence, None if it is not to be seen.

    Raises:
        EffectGone: it was made, and has been cancelled since.
        CalcomError: the look failed.
    """
    client = services.calcom.at(Priority.UNDO)  # until it has been looked, nobody knows what is booked
    mine = [
        booking
        for booking in client.find_bookings(
            event_type_id=slot.event_type_id,
            attendee_email=customer.email,
            after_start=slot.start,
            before_end=slot.end,
        )
        if booking.metadata.get(METADATA_KEY) == key
    ]
    for booking in mine:
        standing = follow_moves(client, booking)
        if standing.status in STANDING:
            return essence(standing, adopted=False)
    if mine:
        raise EffectGone("the booking was made and has been cancelled at Cal.com since")
    return None


def find_brought(services: BookingServices, key: str, slot: Slot, uid: str) -> dict[str, Any] | None:
    """Look for a booking that somebody has brought along; return its essence, None if Cal.com has none of that uid.

    Args:
        services: what booking sagas are given.
        key: of the step that is to adopt it.
        slot: what it must be for.
        uid: Cal.com's name for it.

    Raises:
        EffectGone: it does not stand, or is not what was asked for, so that it is not ours to adopt, nor to cancel.
        CalcomError: the look failed.
    """
    try:
        booking = services.calcom.at(Priority.UNDO).get_booking(uid)
    except BookingNotFound:
        return None
    if booking.status not in STANDING:
        raise EffectGone(f"booking {uid} is {booking.status} at Cal.com")
    if booking.event_type_id != slot.event_type_id or booking.start != slot.start:
        raise EffectGone(f"booking {uid} is of another event type or time than the request")
    if booking.metadata.get(METADATA_KEY, key) != key:
        # Another saga's, perhaps not on record yet: undoing this one would cancel it.
        raise EffectGone(f"booking {uid} was made for another appointment")
    return essence(booking, adopted=True)


def follow_moves(client: CalcomClient, booking: Booking) -> Booking:
    """Return the booking that a moved one has become: every move makes another uid."""
    for _ in range(LONGEST_TRAIL):
        if booking.rescheduled_to_uid is None:
            break
        booking = client.get_booking(booking.rescheduled_to_uid)
    return booking


def essence(booking: Booking, *, adopted: bool) -> dict[str, Any]:
    """Return what later steps need of a booking; it stays in the database."""
    host = booking.hosts[0] if booking.hosts else None
    return {
        "uid": booking.uid,
        "status": booking.status,
        "adopted": adopted,
        "host": None if host is None else {"id": host.id, "email": host.email},
    }


def seen(booking: Booking) -> dict[str, Any]:
    """Return a booking's essence and its times."""
    return {
        **essence(booking, adopted=False),
        "start": booking.start.isoformat(),
        "end": booking.end.isoformat(),
    }


def find_last(client: CalcomClient, uid: str) -> Booking:
    """Return what a booking that was made at some time has become, standing or not.

    Raises:
        CalcomUnavailable: it is not to be seen (yet): a replica lags, or the key is for another Cal.com.
        CalcomError: the look failed.
    """
    try:
        return follow_moves(client, client.get_booking(uid))
    except BookingNotFound:
        raise CalcomUnavailable(f"booking {uid} is not to be seen (yet)") from None


def find_standing(client: CalcomClient, uid: str) -> Booking:
    """Return a booking, wherever it has been moved to.

    Raises:
        BookingGone: it was cancelled or declined.
        CalcomError: as for `find_last`.
    """
    booking = find_last(client, uid)
    if booking.status not in STANDING:
        raise BookingGone(f"booking {booking.uid} is {booking.status} at Cal.com")
    return booking


def slot_problems(services: BookingServices, slot: Slot) -> list[str]:
    """Return what keeps a slot from being booked by its event type, one line each; Cal.com away is no problem."""
    number, minutes = slot.event_type_id, slot.duration_minutes
    try:
        event_type = services.event_types.get(number)
    except EventTypeNotFound:
        return [f"event_type_id: Cal.com has no event type {number}"]
    if event_type is None:
        return []
    if event_type.recurring or event_type.seated:
        return [f"event_type_id: event type {number} is recurring or seated, which cannot be booked here"]
    if minutes not in event_type.lengths:
        allowed = ", ".join(map(str, event_type.lengths))
        return [f"duration_minutes: event type {number} takes {allowed} minutes"]
    return []
