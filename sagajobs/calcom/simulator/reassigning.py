"""Giving a round robin's booking to another of its hosts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator.availability import free_hosts
from sagajobs.calcom.simulator.bookings import title
from sagajobs.calcom.simulator.ledger import KeyTaken, Row
from sagajobs.calcom.simulator.replies import nest, validator

if TYPE_CHECKING:
    from sagajobs.calcom.simulator.state import State
    from sagajobs.calcom.simulator.world import EventType


def reassign(state: State, uid: str, host_id: int | None, request_id: str, *, by: int, allowed: bool) -> Row:
    """Give a booking to another host; uid and times stay. No webhook tells of it.

    Args:
        state: of the simulator.
        uid: which one.
        host_id: who gets it, free or not; None for whoever is free.
        request_id: for the history.
        by: the user who does it.
        allowed: whether he has rights on the booking.

    Raises:
        Refusal: why not.
    """
    row = state.ledger.get(uid)
    if row is None:
        raise nest(404, f"Booking with uid={uid} was not found in the database")
    event_type = state.world.event_type(row.event_type_id)
    if event_type is None:
        raise nest(400, f"Event type with id={row.event_type_id} was not found in the database")
    if not allowed:
        raise nest(403, "You do not have permission to reassign this booking")
    chosen = _another(state, event_type, row) if host_id is None else _valid(state, event_type, host_id)
    reassigned = replace(
        row,
        host_id=chosen,
        title=title(state, event_type, chosen, row.attendee),
        reassigned_by=by,
        updated_at=state.now,
    )
    try:
        state.ledger.commit("reassigned", request_id, reassigned)
    except KeyTaken:
        raise validator(409, "CONFLICT", "There is a conflict with an existing record") from None
    return reassigned


def _another(state: State, event_type: EventType, row: Row) -> int:
    others = sorted(
        (one for one in event_type.hosts if one != row.host_id), key=lambda one: (state.ledger.load(one), one)
    )
    free = free_hosts(state, others, row.start, row.end)
    if not free:
        raise nest(400, "Can't reassign the booking because no other host is available at that time.")
    return free[0]


def _valid(state: State, event_type: EventType, host_id: int) -> int:
    if all(host.id != host_id for host in state.world.hosts):
        raise nest(404, f"User with id={host_id} was not found in the database")
    if not event_type.round_robin or host_id not in event_type.hosts:
        raise nest(
            400,
            f"User with id={host_id} is not a valid Round Robin host - the user to which you reassign this booking "
            "must be one of the booking hosts. Fetch the booking using the GET /v2/bookings/{uid} endpoint and "
            "select id of one of the hosts.",
        )
    return host_id
