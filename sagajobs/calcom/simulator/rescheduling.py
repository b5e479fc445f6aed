"""Moving a booking: a new one takes the place of the old, in one transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator import notices
from sagajobs.calcom.simulator.availability import free_host, race_lost, refuse_out_of_bounds, same
from sagajobs.calcom.simulator.bookings import ics_uid, looked_up, nameless, read_back, title
from sagajobs.calcom.simulator.ledger import KeyTaken, Row
from sagajobs.calcom.simulator.replies import nest, plain

if TYPE_CHECKING:
    from sagajobs.calcom.simulator.bodies import RescheduleBody
    from sagajobs.calcom.simulator.state import State
    from sagajobs.calcom.simulator.world import EventType


async def reschedule(state: State, uid: str, body: RescheduleBody, request_id: str, *, caller: int | None) -> Row:
    """Move a booking and return the new one.

    Where confirmation is needed and it is not the host who moves it, the new one is pending; the old one is gone all
    the same.

    Args:
        state: of the simulator.
        uid: the old one.
        body: with the new start.
        request_id: for the history.
        caller: the user's id, if it is known.

    Raises:
        Refusal: why not, and then the old booking stands as it was; or, with the replica lagging, an error although
            it was moved.
    """
    old = _movable(state, uid)
    event_type = state.world.event_type(old.event_type_id)
    if event_type is None:
        raise nest(404, f"Event type with id={old.event_type_id} not found")
    _refuse_short_notice(state, event_type, old, caller)
    refuse_out_of_bounds(state, event_type, body.start)
    repeated = same(state, event_type, old.attendee, body.start)
    if repeated is not None:
        return repeated
    new = _new_row(state, event_type, body, old, caller)
    gone = replace(
        old,
        status="cancelled",
        rescheduled_to=old.rescheduled_to or new.uid,
        rescheduled_by=body.by,
        updated_at=new.created_at,
    )
    try:
        state.ledger.commit("rescheduled", request_id, gone, new)
    except KeyTaken:
        raise race_lost(state) from None
    await state.deliveries.tell(notices.moved(new, old, state.world))
    read_back(state)
    return new


def _movable(state: State, uid: str) -> Row:
    seen, row = looked_up(state, uid), state.ledger.get(uid)
    if seen is None or row is None:
        raise nest(404, f"Booking with uid={uid} was not found in the database")
    if seen.status == "cancelled" and seen.rescheduled_to is not None:
        raise nest(
            400,
            f"Can't reschedule booking with uid={uid} because it has been cancelled and rescheduled already to "
            f"booking with uid={seen.rescheduled_to}. You probably want to reschedule {seen.rescheduled_to} instead "
            "by passing it within the request URL.",
        )
    if seen.status == "cancelled":
        raise nest(
            400,
            f"Can't reschedule booking with uid={uid} because it has been cancelled. "
            "Please provide uid of a booking that is not cancelled.",
        )
    if row.status == "rejected":
        raise plain(404, "Could not find original booking")
    if row.status == "cancelled" and row.rescheduled_to is None:
        # Past a replica that lags. One that was moved meanwhile is not refused, and is moved a second time.
        raise plain(400, "cancelled_bookings_cannot_be_rescheduled")
    return row


def _refuse_short_notice(state: State, event_type: EventType, old: Row, caller: int | None) -> None:
    notice = timedelta(minutes=event_type.reschedule_notice)
    if caller != old.host_id and timedelta() < old.start - state.now < notice:
        raise plain(403, "Rescheduling is not allowed within the minimum notice period before the event")


def _new_row(state: State, event_type: EventType, body: RescheduleBody, old: Row, caller: int | None) -> Row:
    end = body.start + (old.end - old.start)
    by_host = caller == old.host_id or body.by == state.world.host(old.host_id).email
    # A round robin chooses its host anew, unless the host himself moves the booking.
    choice = event_type.model_copy(update={"hosts": (old.host_id,)}) if by_host else event_type
    host_id = free_host(state, choice, body.start, end, moved=old)
    number, uid = state.ledger.new_identity()
    return replace(
        old,
        id=number,
        uid=uid,
        host_id=host_id,
        title=title(state, event_type, host_id, old.attendee),
        start=body.start,
        end=end,
        status="pending" if event_type.requires_confirmation and not by_host else "accepted",
        # Guests are carried over by their addresses: what else was known of them is lost.
        attendee=state.ledger.enrolled(replace(old.attendee, absent=False)),
        guests=tuple(state.ledger.enrolled(nameless(one.email, old.attendee)) for one in old.guests),
        created_at=state.now,
        updated_at=None,
        ics_uid=old.ics_uid if host_id == old.host_id else ics_uid(uid),
        cancellation_reason="",
        rescheduling_reason=body.reason,
        rescheduled_by=body.by,
        cancelled_by="",
        rescheduled_from=old.uid,
        rescheduled_to=None,
        rejection_reason="",
        confirmed=False,
        reassigned_by=None,
        absent_host=False,
    )
