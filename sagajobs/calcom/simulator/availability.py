"""Which host is free, which call is a repetition, and what one is told that lost a race."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator.replies import nest, plain

if TYPE_CHECKING:
    from datetime import datetime

    from sagajobs.calcom.simulator.ledger import Person, Row
    from sagajobs.calcom.simulator.replies import Refusal
    from sagajobs.calcom.simulator.state import State
    from sagajobs.calcom.simulator.world import EventType


def refuse_out_of_bounds(state: State, event_type: EventType, start: datetime) -> None:
    """Refuse a start that is too early or too late.

    Raises:
        Refusal: 400.
    """
    if start < state.now:
        raise nest(400, "Attempting to book a meeting in the past.")
    if not in_bounds(state, event_type, start):
        raise nest(
            400,
            "The event type can't be booked at the \"start\" time provided. This could be because it's too soon "
            "(violating the minimum booking notice) or too far in the future (outside the event's scheduling window). "
            "Try fetching available slots first using the GET /v2/slots endpoint and then make a booking with "
            '"start" time equal to one of the available slots.',
        )


def in_bounds(state: State, event_type: EventType, start: datetime) -> bool:
    """Tell whether a start lies ahead by as much as the event type wants, and no more than that."""
    ahead = start - state.now
    if ahead < timedelta(minutes=event_type.minimum_notice):
        return False
    return not event_type.days_ahead or ahead <= timedelta(days=event_type.days_ahead)


def free_host(state: State, event_type: EventType, start: datetime, end: datetime, *, moved: Row | None = None) -> int:
    """Return the host who gets a booking: of those who are free, the one with the fewest.

    Args:
        state: of the simulator.
        event_type: whose hosts.
        start: of the booking.
        end: of the booking.
        moved: a booking that will be gone, and is not in the way.

    Raises:
        Refusal: 400, if nobody is free.
    """
    by_load = sorted(event_type.hosts, key=lambda host_id: (state.ledger.load(host_id), host_id))
    if state.switches.race != "off":
        return by_load[0]
    free = free_hosts(state, by_load, start, end, moved=moved)
    if not free:
        who = "One of the hosts" if event_type.round_robin else "User"
        raise nest(400, f"{who} either already has booking at this time or is not available")
    return free[0]


def free_hosts(
    state: State, hosts: list[int] | tuple[int, ...], start: datetime, end: datetime, *, moved: Row | None = None
) -> list[int]:
    """Return those of the hosts who are free, in their order.

    Pending bookings are not in the way: only accepted ones count, over all event types of the host.
    """
    except_uid = moved.uid if moved else None
    return [host_id for host_id in hosts if not state.ledger.overlapping(host_id, start, end, except_uid=except_uid)]


def same(state: State, event_type: EventType, attendee: Person, start: datetime) -> Row | None:
    """Return the booking that a repeated call gets back, or None.

    It has the same event type, attendee and start, and is alive; only event types that need confirmation and round
    robins look for it.
    """
    if not (event_type.requires_confirmation or event_type.round_robin):
        return None
    return next(
        (
            row
            for row in state.ledger.rows(email=attendee.email)
            if row.event_type_id == event_type.id
            and row.attendee.email == attendee.email
            and row.attendee.phone == attendee.phone
            and row.start == start
            and row.status in {"accepted", "pending"}
        ),
        None,
    )


def race_lost(state: State) -> Refusal:
    """Return what a call is told whose booking met the unique key."""
    if state.switches.race == "redacted":
        return plain(400, "An error occurred while querying the database.")
    return plain(409, "booking_conflict_error")
