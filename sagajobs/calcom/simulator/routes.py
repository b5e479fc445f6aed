"""Which call goes where: method, path, version, rights, and the act itself.

A version header that fits no controller is not an error of its own: the service silently takes the call for
its oldest version, in which these paths lead elsewhere or nowhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator import bookings, output
from sagajobs.calcom.simulator.bodies import read_cancel, read_create
from sagajobs.calcom.simulator.queries import pagination, read_query, select
from sagajobs.calcom.simulator.replies import Reply, nest, no_route, success

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sagajobs.calcom.simulator.state import State

_BOOKINGS = "2024-08-13"
_EVENT_TYPES = "2024-06-14"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to the API, as far as its acts care.

    Attributes:
        id: the server's own request id.
        authenticated: whether it came with an accepted token.
        ref: what the path names, or "".
    """

    id: str
    authenticated: bool
    ref: str
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint.

    Attributes:
        operation: what faults call it.
        version: the only header value that leads here, or None if any does.
        needs_auth: whether a token must be sent; one that is sent must be right in any case.
    """

    method: str
    pattern: re.Pattern[str]
    operation: str
    version: str | None
    needs_auth: bool
    act: Callable[[State, Call], Reply]


def _create(state: State, call: Call) -> Reply:
    row = bookings.create(state, read_create(call.body), call.id)
    return success(output.booking(row, state.world), status=201)


def _cancel(state: State, call: Call) -> Reply:
    row = bookings.cancel(state, call.ref, read_cancel(call.body), call.id, by_host=call.authenticated)
    return success(output.booking(row, state.world))


def _get(state: State, call: Call) -> Reply:
    row = state.ledger.get(call.ref, lag=state.lag)
    if row is None:
        raise nest(404, f"Booking with uid={call.ref} was not found in the database")
    return success(output.booking(row, state.world))


def _list(state: State, call: Call) -> Reply:
    query = read_query(call.query, state.now)
    rows, total = select(list(state.ledger.rows(email=query.email, lag=state.lag)), query)
    return success([output.booking(row, state.world) for row in rows], pagination=pagination(query, total))


def _list_unfiltered(state: State, call: Call) -> Reply:
    paging = {name: call.query[name] for name in ("take", "skip") if name in call.query}
    query = read_query(paging, state.now)
    rows, total = select(list(state.ledger.rows(lag=state.lag)), query)
    return success([output.booking(row, state.world) for row in rows], pagination=pagination(query, total))


def _event_types(state: State, call: Call) -> Reply:
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


def _event_type(state: State, call: Call) -> Reply:
    found = state.world.event_type(int(call.ref))
    if found is None:
        raise nest(404, f"Event type with id {call.ref} not found")
    return success(output.event_type(found, state.world))


def _me(state: State, _call: Call) -> Reply:
    return success(output.me(state.world.hosts[0]))


ROUTES = (
    Route("POST", re.compile(r"/v2/bookings"), "create", _BOOKINGS, False, _create),
    Route("GET", re.compile(r"/v2/bookings"), "list", _BOOKINGS, True, _list),
    Route("GET", re.compile(r"/v2/bookings/([^/]+)"), "get", _BOOKINGS, False, _get),
    Route("POST", re.compile(r"/v2/bookings/([^/]+)/cancel"), "cancel", _BOOKINGS, False, _cancel),
    Route("GET", re.compile(r"/v2/event-types"), "event_types", _EVENT_TYPES, False, _event_types),
    Route("GET", re.compile(r"/v2/event-types/(\d+)"), "event_type", _EVENT_TYPES, True, _event_type),
    Route("GET", re.compile(r"/v2/me"), "me", None, True, _me),
)
_OLDEST_LIST = Route("GET", re.compile(r"/v2/bookings"), "list", None, True, _list_unfiltered)


def find_route(state: State, method: str, path: str, version: str | None) -> tuple[Route, str]:
    """Return the endpoint for a request, and what its path names.

    Raises:
        Refusal: 404, if there is none in that version.
    """
    for route in ROUTES:
        match = route.pattern.fullmatch(path) if route.method == method else None
        if match is None:
            continue
        ref = match.group(1) if match.groups() else ""
        if route.version is None or (route.version == version and _known(state, route.version)):
            return route, ref
        if route.operation == "list" and state.switches.fallback == "unfiltered":
            return _OLDEST_LIST, ref
    raise no_route(method)


def _known(state: State, version: str) -> bool:
    return version != _BOOKINGS or state.switches.bookings_version_known


def operation_of(method: str, path: str) -> str:
    """Return what faults call a request, whatever its version."""
    return next((one.operation for one in ROUTES if one.method == method and one.pattern.fullmatch(path)), "other")
