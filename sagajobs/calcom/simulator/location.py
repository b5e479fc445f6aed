"""Where a booking takes place: PATCH /v2/bookings/{uid}/location."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sagajobs.calcom.simulator.fields import read_object, wrong
from sagajobs.calcom.simulator.output import VIDEO
from sagajobs.calcom.simulator.replies import nest

if TYPE_CHECKING:
    from sagajobs.calcom.simulator.ledger import Row
    from sagajobs.calcom.simulator.state import State

# The types of locations, and the field that holds each one's value.
_VALUES = {
    "address": "address",
    "attendeeAddress": "address",
    "attendeeDefined": "location",
    "attendeePhone": "phone",
    "integration": "integration",
    "link": "link",
    "phone": "phone",
}
_OWN_VIDEO = "cal-video"


def relocate(state: State, uid: str, content: bytes, request_id: str) -> Row:
    """Give a booking another location, whether the event type offers it or not; a body without one changes nothing.

    Raises:
        Refusal: why not.
    """
    row = state.ledger.get(uid)
    if row is None:
        raise nest(404, f"Booking with uid={uid} not found")
    if not state.administers(uid):
        raise nest(
            403,
            "User is not authorized to update this booking location. User must be the event type owner, host, team "
            "admin or owner, or org admin or owner.",
        )
    location = _read(content, uid)
    if location is None:
        return row
    # The link of a video call wins over any other location, and is the only thing that the metadata loses.
    metadata = {name: value for name, value in row.metadata.items() if name != "videoCallUrl"}
    moved = replace(row, location=location, metadata=metadata, updated_at=state.now)
    state.ledger.commit("relocated", request_id, moved)
    return state.ledger.get(uid, lag=state.lag) or moved


def _read(content: bytes, uid: str) -> str | None:
    given: Any = read_object(content).get("location")
    if given is None:
        return None
    if not isinstance(given, dict) or given.get("type") not in _VALUES:
        raise wrong("location", f"type must be one of {', '.join(_VALUES)}")
    name = _VALUES[given["type"]]
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise wrong(f"location.{name}", f"{name} must be a string")
    if given["type"] != "integration":
        return value
    if value != _OWN_VIDEO:
        raise nest(400, f"The host has not installed the integration {value}; there is {_OWN_VIDEO} only")
    return f"{VIDEO}{uid}"
