"""The rules of making and cancelling bookings, in the order in which the service applies them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator.ledger import KeyTaken, Row
from sagajobs.calcom.simulator.replies import INTERNAL, nest, plain

if TYPE_CHECKING:
    from datetime import datetime

    from sagajobs.calcom.simulator.bodies import CancelBody, CreateBody
    from sagajobs.calcom.simulator.replies import Refusal
    from sagajobs.calcom.simulator.state import State
    from sagajobs.calcom.simulator.world import EventType


def create(state: State, body: CreateBody, request_id: str) -> Row:
    """Make a booking, or return the one that the service takes for the same.

    Raises:
        Refusal: why not; or, with the replica lagging, an error although it was made.
    """
    event_type = _event_type(state, body)
    start = body.start
    end = start + timedelta(minutes=_length(event_type, body.length))
    if start < state.now:
        raise nest(400, "Attempting to book a meeting in the past.")
    if event_type.requires_confirmation or event_type.round_robin:
        same = _same(state, event_type, body)
        if same is not None:
            return same
    host_id = _free_host(state, event_type, start, end)
    row = _new_row(state, event_type, body, host_id, end)
    try:
        state.ledger.commit(state.event("created", request_id), row)
    except KeyTaken:
        raise _race_lost(state) from None
    if state.lag and state.switches.lag_fails_create:
        raise plain(500, INTERNAL)
    return row


def cancel(state: State, uid: str, body: CancelBody, request_id: str, *, by_host: bool) -> Row:
    """Cancel a booking.

    Args:
        state: of the simulator.
        uid: which one.
        body: with the reason.
        request_id: for the history.
        by_host: whether the caller is known to be one who hosts, who must give a reason.

    Raises:
        Refusal: why not.
    """
    seen = state.ledger.get(uid, lag=state.lag if state.switches.lag_blinds_cancel else 0.0)
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
    if row.status == "cancelled":
        raise plain(400, "This booking has already been cancelled.")
    event_type = state.world.event_type(row.event_type_id)
    if event_type is not None and event_type.cancelling_disabled:
        raise plain(400, "This event type does not allow cancellations")
    if by_host and not body.reason.strip():
        raise plain(400, "Cancellation reason is required")
    if row.end <= state.now:
        raise plain(400, "Cannot cancel a booking that has already ended")
    cancelled = replace(
        row,
        status="cancelled",
        cancellation_reason=body.reason,
        cancelled_by=state.world.hosts[0].email if by_host else "",
        updated_at=state.now,
    )
    state.ledger.commit(state.event("cancelled", request_id), cancelled)
    # The answer is read back from the replica, and may show the booking as it was.
    return state.ledger.get(uid, lag=state.lag) or cancelled


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


def _same(state: State, event_type: EventType, body: CreateBody) -> Row | None:
    """Find the booking that a repeated call gets back: same event type, attendee and start, still alive."""
    return next(
        (
            row
            for row in state.ledger.rows(email=body.attendee.email)
            if row.event_type_id == event_type.id
            and row.attendee.email == body.attendee.email
            and row.attendee.phone == body.attendee.phone
            and row.start == body.start
            and row.status in {"accepted", "pending"}
        ),
        None,
    )


def _free_host(state: State, event_type: EventType, start: datetime, end: datetime) -> int:
    ledger = state.ledger
    by_load = sorted(event_type.hosts, key=lambda host_id: (ledger.load(host_id), host_id))
    if state.switches.race != "off":
        return by_load[0]
    # Pending bookings are not in the way: only accepted ones count, over all event types of the host.
    free = [host_id for host_id in by_load if not ledger.overlapping(host_id, start, end)]
    if not free:
        who = "One of the hosts" if event_type.round_robin else "User"
        raise nest(400, f"{who} either already has booking at this time or is not available")
    return free[0]


def _new_row(state: State, event_type: EventType, body: CreateBody, host_id: int, end: datetime) -> Row:
    number, uid = state.ledger.new_identity()
    video = body.metadata.get("videoCallUrl")
    return Row(
        id=number,
        uid=uid,
        event_type_id=event_type.id,
        host_id=host_id,
        title=f"{event_type.title} between {state.world.host(host_id).name} and {body.attendee.name}",
        start=body.start,
        end=end,
        status="pending" if event_type.requires_confirmation else "accepted",
        attendee=body.attendee,
        created_at=state.now,
        location=video or body.location or f"https://cal.example.com/video/{uid}",
        ics_uid=f"{uid}@cal.example.com",
        guests=body.guests,
        metadata=body.metadata,
        responses=body.responses,
    )


def _race_lost(state: State) -> Refusal:
    if state.switches.race == "redacted":
        return plain(400, "An error occurred while querying the database.")
    return plain(409, "booking_conflict_error")
