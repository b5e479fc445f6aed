"""Which call goes where: method, path, version, rights, limit, and the act.

A version header that fits no controller is not an error of its own: the service silently takes the call for
its oldest version, in which these paths lead elsewhere or nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator import acts
from sagajobs.calcom.simulator.replies import no_route

if TYPE_CHECKING:
    from sagajobs.calcom.simulator.acts import Call
    from sagajobs.calcom.simulator.replies import Reply
    from sagajobs.calcom.simulator.state import State

_BOOKINGS = "2024-08-13"
_EVENT_TYPES = "2024-06-14"
_SLOTS = "2024-09-04"

Act = Callable[["State", "Call"], Awaitable["Reply"]]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint.

    Attributes:
        method: of HTTP.
        pattern: of the path; its groups are what the path names.
        operation: what faults call it.
        version: the only header value that leads here, or None if any does.
        needs_auth: whether a token must be sent; one that is sent must be right in any case.
        act: what it does.
        limit: the name of its own rate limit, which counts instead of the general one.
    """

    method: str
    pattern: re.Pattern[str]
    operation: str
    version: str | None
    needs_auth: bool
    act: Act
    limit: str | None = None


def _route(
    method: str,
    path: str,
    operation: str,
    version: str | None,
    act: Act,
    *,
    auth: bool = False,
    limit: str | None = None,
) -> Route:
    """Return a route; in `path`, {} stands for a name and {int} for a number."""
    pattern = re.compile(path.replace("{}", "([^/]+)").replace("{int}", r"(\d+)"))
    return Route(method, pattern, operation, version, auth, act, limit)


_LOCATION = "Booking_location_update"
_GUESTS = "Booking_guests_add"
_ADD = "Booking_attendees_add"
_REMOVE = "Booking_attendees_remove"

ROUTES = (
    _route("POST", "/v2/bookings", "create", _BOOKINGS, acts.create_booking),
    _route("GET", "/v2/bookings", "list", _BOOKINGS, acts.list_bookings, auth=True),
    _route("GET", "/v2/bookings/{}", "get", _BOOKINGS, acts.get_booking),
    _route("POST", "/v2/bookings/{}/reschedule", "reschedule", _BOOKINGS, acts.reschedule_booking),
    _route("POST", "/v2/bookings/{}/cancel", "cancel", _BOOKINGS, acts.cancel_booking),
    _route("POST", "/v2/bookings/{}/confirm", "confirm", _BOOKINGS, acts.confirm_booking, auth=True),
    _route("POST", "/v2/bookings/{}/decline", "decline", _BOOKINGS, acts.decline_booking, auth=True),
    _route("POST", "/v2/bookings/{}/reassign", "reassign", _BOOKINGS, acts.reassign_booking, auth=True),
    _route("POST", "/v2/bookings/{}/reassign/{int}", "reassign", _BOOKINGS, acts.reassign_booking, auth=True),
    _route("POST", "/v2/bookings/{}/mark-absent", "mark_absent", _BOOKINGS, acts.mark_absent, auth=True),
    _route(
        "PATCH", "/v2/bookings/{}/location", "location", _BOOKINGS, acts.update_location, auth=True, limit=_LOCATION
    ),
    _route("POST", "/v2/bookings/{}/guests", "guests", _BOOKINGS, acts.add_guests, auth=True, limit=_GUESTS),
    _route("GET", "/v2/bookings/{}/attendees", "attendees", _BOOKINGS, acts.list_attendees, auth=True),
    _route("POST", "/v2/bookings/{}/attendees", "add_attendee", _BOOKINGS, acts.add_attendee, auth=True, limit=_ADD),
    _route("GET", "/v2/bookings/{}/attendees/{}", "attendees", _BOOKINGS, acts.get_attendee, auth=True),
    _route(
        "DELETE",
        "/v2/bookings/{}/attendees/{}",
        "remove_attendee",
        _BOOKINGS,
        acts.remove_attendee,
        auth=True,
        limit=_REMOVE,
    ),
    _route("GET", "/v2/slots", "slots", _SLOTS, acts.list_slots),
    _route("POST", "/v2/slots/reservations", "reserve", _SLOTS, acts.reserve_slot),
    _route("GET", "/v2/slots/reservations/{}", "get_reservation", _SLOTS, acts.get_reservation),
    _route("DELETE", "/v2/slots/reservations/{}", "delete_reservation", _SLOTS, acts.delete_reservation),
    _route("GET", "/v2/event-types", "event_types", _EVENT_TYPES, acts.list_event_types),
    _route("GET", "/v2/event-types/{int}", "event_type", _EVENT_TYPES, acts.get_event_type, auth=True),
    _route("GET", "/v2/me", "me", None, acts.me, auth=True),
    _route("POST", "/v2/webhooks", "create_webhook", None, acts.create_webhook, auth=True),
    _route("GET", "/v2/webhooks", "list_webhooks", None, acts.list_webhooks, auth=True),
    _route("GET", "/v2/webhooks/{}", "get_webhook", None, acts.get_webhook, auth=True),
    _route("DELETE", "/v2/webhooks/{}", "delete_webhook", None, acts.delete_webhook, auth=True),
)
_OLDEST_LIST = _route("GET", "/v2/bookings", "list", None, acts.list_unfiltered, auth=True)


def find_route(state: State, method: str, path: str, version: str | None) -> tuple[Route, tuple[str, ...]]:
    """Return the endpoint for a request, and what its path names.

    Raises:
        Refusal: 404, if there is none in that version.
    """
    route = route_of(method, path)
    if route is None:
        raise no_route(method)
    match = route.pattern.fullmatch(path)
    refs = match.groups() if match else ()
    if route.version is None or (route.version == version and _known(state, route.version)):
        return route, refs
    if route.operation == "list" and state.switches.fallback == "unfiltered":
        return _OLDEST_LIST, refs
    raise no_route(method)


def _known(state: State, version: str) -> bool:
    return version != _BOOKINGS or state.switches.bookings_version_known


def route_of(method: str, path: str) -> Route | None:
    """Return the endpoint for a request, whatever its version, or None."""
    return next((one for one in ROUTES if one.method == method and one.pattern.fullmatch(path)), None)
