"""What each endpoint does with a call: read it, apply the rules, show what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator import attendance, bookings, output, slots
from sagajobs.calcom.simulator.bodies import read_cancel, read_create, read_reason, read_reschedule
from sagajobs.calcom.simulator.confirming import confirm, decline
from sagajobs.calcom.simulator.location import relocate
from sagajobs.calcom.simulator.queries import pagination, read_query, select
from sagajobs.calcom.simulator.reassigning import reassign
from sagajobs.calcom.simulator.replies import Reply, document, nest, success
from sagajobs.calcom.simulator.rescheduling import reschedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagajobs.calcom.simulator.ledger import Row
    from sagajobs.calcom.simulator.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to the API, as far as its acts care.

    Attributes:
        id: the server's own request id.
        authenticated: whether it came with an accepted token.
        refs: what the path names.
    """

    id: str
    authenticated: bool
    refs: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes

    @property
    def ref(self) -> str:
        """What the path names first."""
        return self.refs[0]

    def user(self, state: State) -> int | None:
        """Return the id of the user whose token came along, or None."""
        return state.world.hosts[0].id if self.authenticated else None


def _shown(state: State, row: Row, *, status: int = 200) -> Reply:
    return success(output.booking(row, state.world), status=status)


async def create_booking(state: State, call: Call) -> Reply:
    """POST /v2/bookings."""
    return _shown(state, await bookings.create(state, read_create(call.body), call.id), status=201)


async def reschedule_booking(state: State, call: Call) -> Reply:
    """POST /v2/bookings/{uid}/reschedule."""
    body = read_reschedule(call.body)
    row = await reschedule(state, call.ref, body, call.id, caller=call.user(state))
    return _shown(state, row, status=201)


async def cancel_booking(state: State, call: Call) -> Reply:
    """POST /v2/bookings/{uid}/cancel."""
    is_host = call.authenticated and state.administers(call.ref)
    by = bookings.Canceller(is_host=is_host, email=state.world.hosts[0].email if is_host else "")
    return _shown(state, await bookings.cancel(state, call.ref, read_cancel(call.body), call.id, by))


async def confirm_booking(state: State, call: Call) -> Reply:
    """POST /v2/bookings/{uid}/confirm."""
    return _shown(state, await confirm(state, call.ref, call.id, allowed=state.administers(call.ref)))


async def decline_booking(state: State, call: Call) -> Reply:
    """POST /v2/bookings/{uid}/decline."""
    reason = read_reason(call.body)
    return _shown(state, await decline(state, call.ref, reason, call.id, allowed=state.administers(call.ref)))


async def reassign_booking(state: State, call: Call) -> Reply:
    """POST /v2/bookings/{uid}/reassign, and /v2/bookings/{uid}/reassign/{userId}."""
    read_reason(call.body)
    uid, *chosen = call.refs
    host_id = int(chosen[0]) if chosen else None
    by = state.world.hosts[0].id
    row = reassign(state, uid, host_id, call.id, by=by, allowed=state.administers(uid))
    host = output.user(state.world.host(row.host_id))
    return success({"bookingUid": uid, "reassignedTo": host})


async def update_location(state: State, call: Call) -> Reply:
    """PATCH /v2/bookings/{uid}/location."""
    return _shown(state, relocate(state, call.ref, call.body, call.id))


async def add_guests(state: State, call: Call) -> Reply:
    """POST /v2/bookings/{uid}/guests."""
    return _shown(state, attendance.add_guests(state, call.ref, call.body, call.id))


async def list_attendees(state: State, call: Call) -> Reply:
    """GET /v2/bookings/{uid}/attendees."""
    return success([output.attendee(one) for one in attendance.attendees(state, call.ref)])


async def get_attendee(state: State, call: Call) -> Reply:
    """GET /v2/bookings/{uid}/attendees/{id}."""
    uid, ref = call.refs
    return success(output.attendee(attendance.attendee(state, uid, ref)))


async def add_attendee(state: State, call: Call) -> Reply:
    """POST /v2/bookings/{uid}/attendees."""
    row, person = attendance.add_attendee(state, call.ref, call.body, call.id)
    return success(output.attendee(person) | {"bookingId": row.id}, status=201)


async def remove_attendee(state: State, call: Call) -> Reply:
    """DELETE /v2/bookings/{uid}/attendees/{id}."""
    uid, ref = call.refs
    row, person = attendance.remove_attendee(state, uid, ref, call.id)
    return success(
        {
            "id": person.id,
            "bookingId": row.id,
            "name": person.name,
            "email": person.email,
            "timeZone": person.time_zone,
        }
    )


async def mark_absent(state: State, call: Call) -> Reply:
    """POST /v2/bookings/{uid}/mark-absent."""
    return _shown(state, await attendance.mark_absent(state, call.ref, call.body, call.id))


async def get_booking(state: State, call: Call) -> Reply:
    """GET /v2/bookings/{uid}."""
    row = state.ledger.get(call.ref, lag=state.lag)
    if row is None:
        raise nest(404, f"Booking with uid={call.ref} was not found in the database")
    return _shown(state, row)


async def list_bookings(state: State, call: Call) -> Reply:
    """GET /v2/bookings."""
    query = read_query(call.query, state.now)
    known = [row for row in state.ledger.rows(email=query.email, lag=state.lag) if state.administers(row.uid)]
    rows, total = select(known, query)
    return success([output.booking(row, state.world) for row in rows], pagination=pagination(query, total))


async def list_unfiltered(state: State, call: Call) -> Reply:
    """GET /v2/bookings in the oldest version, which knows no filters."""
    paging = {name: call.query[name] for name in ("take", "skip") if name in call.query}
    query = read_query(paging, state.now)
    known = [row for row in state.ledger.rows(lag=state.lag) if state.administers(row.uid)]
    rows, total = select(known, query)
    return success([output.booking(row, state.world) for row in rows], pagination=pagination(query, total))


async def list_event_types(state: State, call: Call) -> Reply:
    """GET /v2/event-types."""
    username, slug = call.query.get("username"), call.query.get("eventSlug")
    world = state.world
    shown = [
        one
        for one in world.event_types
        # A team's event types are in no user's list.
        if not one.round_robin
        and (call.authenticated or username is not None)
        and (username is None or username == world.host(one.hosts[0]).username)
        and (slug is None or one.slug == slug)
    ]
    return success([output.event_type(one, world) for one in shown])


async def get_event_type(state: State, call: Call) -> Reply:
    """GET /v2/event-types/{id}."""
    found = state.world.event_type(int(call.ref))
    if found is None:
        raise nest(404, f"Event type with id {call.ref} not found")
    return success(output.event_type(found, state.world))


async def me(state: State, _call: Call) -> Reply:
    """GET /v2/me."""
    return success(output.me(state.world.hosts[0]))


async def list_slots(state: State, call: Call) -> Reply:
    """GET /v2/slots."""
    return success(slots.available(state, call.query))


async def reserve_slot(state: State, call: Call) -> Reply:
    """POST /v2/slots/reservations."""
    return success(slots.reserve(state, call.body, authenticated=call.authenticated), status=201)


async def get_reservation(state: State, call: Call) -> Reply:
    """GET /v2/slots/reservations/{uid}: of an unknown one nothing, and no error."""
    found = state.reservations.get(call.ref, state.now)
    return success(found.to_json() if found else None)


async def delete_reservation(state: State, call: Call) -> Reply:
    """DELETE /v2/slots/reservations/{uid}, known or not."""
    state.reservations.remove(call.ref)
    return document({"status": "success"})


async def create_webhook(state: State, call: Call) -> Reply:
    """POST /v2/webhooks."""
    return success(state.webhooks.add(call.body).to_json(state.world.hosts[0].id), status=201)


async def list_webhooks(state: State, _call: Call) -> Reply:
    """GET /v2/webhooks."""
    return success([one.to_json(state.world.hosts[0].id) for one in state.webhooks.all()])


async def get_webhook(state: State, call: Call) -> Reply:
    """GET /v2/webhooks/{id}."""
    return success(state.webhooks.get(call.ref).to_json(state.world.hosts[0].id))


async def delete_webhook(state: State, call: Call) -> Reply:
    """DELETE /v2/webhooks/{id}."""
    return success(state.webhooks.remove(call.ref).to_json(state.world.hosts[0].id))
