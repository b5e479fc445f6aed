"""Confirming and declining what is pending."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator import notices
from sagajobs.calcom.simulator.replies import nest, trpc

if TYPE_CHECKING:
    from sagajobs.calcom.simulator.ledger import Row
    from sagajobs.calcom.simulator.state import State


async def confirm(state: State, uid: str, request_id: str, *, allowed: bool) -> Row:
    """Confirm a booking; whether the host is free is not looked at, and of what is cancelled it is not asked.

    Args:
        state: of the simulator.
        uid: which one.
        request_id: for the history.
        allowed: whether the caller has rights on it.

    Raises:
        Refusal: why not.
    """
    row = replace(_undecided(state, uid, allowed=allowed), status="accepted", confirmed=True, updated_at=state.now)
    state.ledger.commit("confirmed", request_id, row)
    await state.deliveries.tell(notices.confirmed(row, state.world))
    return state.ledger.get(uid, lag=state.lag) or row


async def decline(state: State, uid: str, reason: str, request_id: str, *, allowed: bool) -> Row:
    """Decline a booking.

    Args:
        state: of the simulator.
        uid: which one.
        reason: why, or "".
        request_id: for the history.
        allowed: whether the caller has rights on it.

    Raises:
        Refusal: why not.
    """
    row = _undecided(state, uid, allowed=allowed)
    row = replace(row, status="rejected", rejection_reason=reason, updated_at=state.now)
    state.ledger.commit("declined", request_id, row)
    await state.deliveries.tell(notices.rejected(row, state.world))
    return state.ledger.get(uid, lag=state.lag) or row


def _undecided(state: State, uid: str, *, allowed: bool) -> Row:
    row = state.ledger.get(uid)
    if row is None:
        raise nest(404, f"Booking with uid={uid} was not found in the database")
    if not allowed:
        raise trpc(401, "User is not authorized to confirm this booking")
    # All that is refused: one that is cancelled or rejected can be confirmed too.
    if row.status == "accepted":
        raise trpc(400, "Booking already confirmed")
    return row
