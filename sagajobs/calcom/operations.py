"""The calls the client makes: method, path, API version, and what their refusals mean.

The version header is per endpoint. A value that the server does not know is no error there: it silently
selects another, older API. So each value here is one that public servers are known to answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sagajobs.calcom.errors import (
    AlreadyCancelled,
    AlreadyConfirmed,
    AlreadyRescheduled,
    BookingEnded,
    BookingNotFound,
    CalcomOutcomeUnknown,
    CalcomRefused,
    EventTypeNotFound,
    RefusalInDoubt,
    SlotTaken,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagajobs.calcom.errors import CalcomError

BOOKINGS_VERSION = "2024-08-13"
EVENT_TYPES_VERSION = "2024-06-14"
SLOTS_VERSION = "2024-09-04"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of the API.

    Attributes:
        method: GET, or POST or PATCH for whatever changes something.
        path: template, with `{}` where an id goes; this is what logs and messages show.
        version: value of `cal-api-version`, or None where the endpoint has no versions.
        not_found: what a 404 about a thing (not about the route) means.
        conflict: what a 409 means.
        refusals: a piece of the server's message, in lower case, to the error it stands for; the first hit
            counts. Only looked at for a 400, whose status alone does not settle the matter.
        per_minute: calls a minute that the server allows of this operation alone, or None where it counts with
            all others only.
    """

    method: str
    path: str
    version: str | None = None
    not_found: type[CalcomError] = CalcomRefused
    conflict: type[CalcomError] = RefusalInDoubt
    refusals: Mapping[str, type[CalcomError]] = field(default_factory=dict)
    per_minute: int | None = None

    @property
    def changes(self) -> bool:
        """Whether the call changes something at Cal.com, so that a lost answer leaves its outcome open."""
        return self.method != "GET"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


# A strict body: these words come from the validation of the body, before Cal.com looks at anything else.
_BODY_REFUSED: Mapping[str, type[CalcomError]] = {
    "property is wrong": CalcomRefused,
    "should not exist": CalcomRefused,
}

# The slot asked for is not free, in the words of creating and of moving a booking.
_SLOT_REFUSED: Mapping[str, type[CalcomError]] = {
    "already has booking at this time or is not available": SlotTaken,
    # The race on the unique key of host, start and end, when the server hides database errors.
    "an error occurred while querying the database": SlotTaken,
    "meeting in the past": CalcomRefused,
    "can't be booked at": CalcomRefused,
    "error_required_field": CalcomRefused,
}
# Cal.com API v2: location, guests and attendees of a booking are limited for themselves, as each sends mail.
_MAILING_PER_MINUTE = 5

CREATE_BOOKING = Operation(
    method="POST",
    path="/v2/bookings",
    version=BOOKINGS_VERSION,
    not_found=EventTypeNotFound,
    conflict=SlotTaken,
    refusals={
        # The one refusal that is known to come after the booking was committed.
        "missing payment credentials": CalcomOutcomeUnknown,
        **_SLOT_REFUSED,
        **_BODY_REFUSED,
    },
)
CANCEL_BOOKING = Operation(
    method="POST",
    path="/v2/bookings/{}/cancel",
    version=BOOKINGS_VERSION,
    not_found=BookingNotFound,
    refusals={
        "has been cancelled already": AlreadyCancelled,
        "already been cancelled": AlreadyCancelled,
        "already ended": BookingEnded,
        "cancellation reason is required": CalcomRefused,
        "does not allow cancellations": CalcomRefused,
        "invalid seatuid": CalcomRefused,
        **_BODY_REFUSED,
    },
)
RESCHEDULE_BOOKING = Operation(
    method="POST",
    path="/v2/bookings/{}/reschedule",
    version=BOOKINGS_VERSION,
    # Also said of a booking that exists and was declined.
    not_found=BookingNotFound,
    conflict=SlotTaken,
    refusals={
        "cancelled and rescheduled already": AlreadyRescheduled,
        "because it has been cancelled": AlreadyCancelled,
        **_SLOT_REFUSED,
        **_BODY_REFUSED,
    },
)
CONFIRM_BOOKING = Operation(
    method="POST",
    path="/v2/bookings/{}/confirm",
    version=BOOKINGS_VERSION,
    not_found=BookingNotFound,
    refusals={"already confirmed": AlreadyConfirmed},
)
DECLINE_BOOKING = Operation(
    method="POST",
    path="/v2/bookings/{}/decline",
    version=BOOKINGS_VERSION,
    not_found=BookingNotFound,
    refusals={"already confirmed": AlreadyConfirmed, **_BODY_REFUSED},
)
SET_LOCATION = Operation(
    method="PATCH",
    path="/v2/bookings/{}/location",
    version=BOOKINGS_VERSION,
    not_found=BookingNotFound,
    refusals=_BODY_REFUSED,
    per_minute=_MAILING_PER_MINUTE,
)
ADD_GUESTS = Operation(
    method="POST",
    path="/v2/bookings/{}/guests",
    version=BOOKINGS_VERSION,
    not_found=BookingNotFound,
    refusals=_BODY_REFUSED,
    per_minute=_MAILING_PER_MINUTE,
)
GET_BOOKING = Operation(
    method="GET",
    path="/v2/bookings/{}",
    version=BOOKINGS_VERSION,
    not_found=BookingNotFound,
)
LIST_BOOKINGS = Operation(method="GET", path="/v2/bookings", version=BOOKINGS_VERSION)
GET_EVENT_TYPE = Operation(
    method="GET",
    path="/v2/event-types/{}",
    version=EVENT_TYPES_VERSION,
    not_found=EventTypeNotFound,
)
GET_SLOTS = Operation(method="GET", path="/v2/slots", version=SLOTS_VERSION, not_found=EventTypeNotFound)
ME = Operation(method="GET", path="/v2/me")
