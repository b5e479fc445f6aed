"""The rules of making and cancelling bookings, in the order in which the service applies them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator import notices
from sagajobs.calcom.simulator.availability import free_host, race_lost, refuse_out_of_bounds, same
from sagajobs.calcom.simulator.ledger import KeyTaken, Person, Row
from sagajobs.calcom.simulator.output import VIDEO
from sagajobs.calcom.simulator.replies import INTERNAL, nest, plain

if TYPE_CHECKING:
    from datetime import datetime

    from sagajobs.calcom.simulator.bodies import CancelBody, CreateBody
    from sagajobs.calcom.simulator.state import State
    from sagajobs.calcom.simulator.world import EventType


async def create(state: State, body: CreateBody, request_id: str) -> Row:
    """Make a booking, or return the one that the service takes for the same.

    Raises:
        Refusal: why not; or, with the replica lagging, an error although it was made.
    """
    event_type = _event_type(state, body)
    start = body.start
    end = start + timedelta(minutes=_length(event_type, body.length))
    refuse_out_of_bounds(state, event_type, start)
    repeated = same(state, event_type, body.attendee, start)
    if repeated is not None:
        return repeated
    host_id = free_host(state, event_type, start, end)
    row = _new_row(state, event_type, body, host_id, end)
    try:
        state.ledger.commit("created", request_id, row)
    except KeyTaken:
        raise race_lost(state) from None
    await state.deliveries.tell(notices.made(row, state.world))
    read_back(state)
    return row


def read_back(state: State) -> None:
    """Fail as a call does that does not find on the replica what it has just made.

    Raises:
        Refusal: 500, if that is switched on.
    """
    if state.lag and state.switches.lag_fails_create:
        raise plain(500, INTERNAL)


@dataclass(frozen=True, slots=True)
class Canceller:
    """Who cancels: the host, who must give a reason, or anybody; `email` is "" if it is not known."""

    is_host: bool
    email: str


async def cancel(state: State, uid: str, body: CancelBody, request_id: str, by: Canceller) -> Row:
    """Cancel a booking.

    Raises:
        Refusal: why not.
    """
    seen = looked_up(state, uid)
    row = state.ledger.get(uid)
    if seen is None or row is None:
        raise nest(404, f"Booking with uid={uid} not found")
    if seen.status == "cancelled":
        raise nest(
            400,
            f"Can't cancel booking with uid={uid} because it has been cancelled already. "
            "Please provide uid of a booking that is not cancelled.",
        )
    if body.seat_uid is not None:
        raise nest(400, f"Invalid seatUid: {body.seat_uid}")
    _refuse_gone(row)
    event_type = state.world.event_type(row.event_type_id)
    if event_type is not None and event_type.cancelling_disabled:
        raise plain(400, "This event type does not allow cancellations")
    if by.is_host and not body.reason.strip():
        raise plain(400, "Cancellation reason is required")
    if row.end <= state.now:
        raise plain(400, "Cannot cancel a booking that has already ended")
    # Before the row changes: a receiver that looks the booking up finds it standing.
    await state.deliveries.tell(notices.cancelled(row, state.world, reason=body.reason, by=by.email))
    row = state.ledger.get(uid)
    if row is None:
        # The simulator was reset meanwhile, and what comes after that must not find this booking.
        raise nest(404, f"Booking with uid={uid} not found")
    _refuse_gone(row)
    cancelled = replace(
        row, status="cancelled", cancellation_reason=body.reason, cancelled_by=by.email, updated_at=state.now
    )
    state.ledger.commit("cancelled", request_id, cancelled)
    # The answer is read back from the replica, and may show the booking as it was.
    return state.ledger.get(uid, lag=state.lag) or cancelled


def looked_up(state: State, uid: str) -> Row | None:
    """Return a booking as a cancel or reschedule sees it first, which may be the replica."""
    return state.ledger.get(uid, lag=state.lag if state.switches.lag_blinds_cancel else 0.0)


def _refuse_gone(row: Row) -> None:
    if row.status == "cancelled":
        raise plain(400, "This booking has already been cancelled.")


def _event_type(state: State, body: CreateBody) -> EventType:
    if body.event_type_id is not None:
        found = state.world.event_type(body.event_type_id)
        name = f"id {body.event_type_id}"
    else:
        found = state.world.event_type_by_slug(body.event_type_slug or "", body.username or "")
        name = f"slug {body.event_type_slug} and username {body.username}"
    if found is None:
        raise nest(404, f"Event type with {name} not found")
    return found


def _length(event_type: EventType, asked: int | None) -> int:
    if asked is None:
        return event_type.length
    if asked not in event_type.lengths:
        raise nest(400, "lengthInMinutes property is wrong,the event type does not have this length")
    return asked


def _new_row(state: State, event_type: EventType, body: CreateBody, host_id: int, end: datetime) -> Row:
    number, uid = state.ledger.new_identity()
    video = body.metadata.get("videoCallUrl")
    return Row(
        id=number,
        uid=uid,
        event_type_id=event_type.id,
        host_id=host_id,
        title=title(state, event_type, host_id, body.attendee),
        start=body.start,
        end=end,
        status="pending" if event_type.requires_confirmation else "accepted",
        attendee=state.ledger.enrolled(body.attendee),
        created_at=state.now,
        location=video or body.location or f"{VIDEO}{uid}",
        ics_uid=ics_uid(uid),
        guests=tuple(state.ledger.enrolled(nameless(email, body.attendee)) for email in body.guests),
        metadata=body.metadata,
        responses=body.responses,
    )


def title(state: State, event_type: EventType, host_id: int, attendee: Person) -> str:
    """Return what a booking is called."""
    return f"{event_type.title} between {state.world.host(host_id).name} and {attendee.name}"


def ics_uid(uid: str) -> str:
    """Return the identity of a booking in calendars."""
    return f"{uid}@cal.example.com"


def nameless(email: str, attendee: Person) -> Person:
    """Return a guest of whom only the address is known; the rest is as with who brings him along."""
    return Person(name="", email=email, time_zone=attendee.time_zone, language=attendee.language)
