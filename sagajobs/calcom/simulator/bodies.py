"""Strict reading of request bodies: whatever Cal.com API v2 does not know or want in one is a 400."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sagajobs.calcom.simulator.fields import (
    is_email,
    read_email,
    read_flag,
    read_integer,
    read_language,
    read_moment,
    read_object,
    read_phone,
    read_text,
    read_zone,
    refuse_unknown,
    wrong,
)
from sagajobs.calcom.simulator.ledger import Person
from sagajobs.calcom.simulator.replies import nest, plain, validator

_CREATE_FIELDS = frozenset(
    {
        "start", "attendee", "bookingFieldsResponses", "eventTypeId", "eventTypeSlug", "username", "teamSlug",
        "organizationSlug", "guests", "meetingUrl", "location", "metadata", "lengthInMinutes", "routing",
        "emailVerificationCode", "rrHostSubsetIds", "recurrenceCount", "instant",
    }
)  # fmt: skip
_ATTENDEE_FIELDS = frozenset({"name", "email", "timeZone", "phoneNumber", "language"})
_CANCEL_FIELDS = frozenset({"cancellationReason", "cancelSubsequentBookings", "seatUid"})
_RESCHEDULE_FIELDS = frozenset(
    {"start", "rescheduledBy", "reschedulingReason", "seatUid", "emailVerificationCode", "rrHostSubsetIds"}
)
_LOCATION_TYPES = frozenset(
    {
        "address", "attendeeAddress", "attendeeDefined", "attendeePhone", "integration", "link", "phone",
        "organizersDefaultApp",
    }
)  # fmt: skip

_MAX_METADATA_KEYS = 50
_MAX_METADATA_KEY_LENGTH = 40
_MAX_METADATA_VALUE_LENGTH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBody:
    """A body of POST /v2/bookings that passed; which event type it names is not yet looked up."""

    start: datetime
    attendee: Person
    event_type_id: int | None
    event_type_slug: str | None
    username: str | None
    length: int | None
    guests: tuple[str, ...]
    location: str | None
    metadata: dict[str, str] = field(default_factory=dict)
    responses: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelBody:
    """A body of POST /v2/bookings/{uid}/cancel that passed."""

    reason: str
    seat_uid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RescheduleBody:
    """A body of POST /v2/bookings/{uid}/reschedule that passed; `by` is an address, or ""."""

    start: datetime
    by: str
    reason: str


def read_create(content: bytes) -> CreateBody:
    """Read the body of POST /v2/bookings.

    Raises:
        Refusal: 400, or 501 for the variants that the simulator does not have.
    """
    body = read_object(content, known=_CREATE_FIELDS)
    for variant in ("recurrenceCount", "instant"):
        if body.get(variant):
            raise plain(501, f"{variant} is not simulated")
    event_type_id = read_integer(body, "eventTypeId")
    slug, username = (read_text(body, name) for name in ("eventTypeSlug", "username"))
    if event_type_id is None and not (slug and username):
        if slug and read_text(body, "teamSlug"):
            raise plain(501, "teamSlug is not simulated")
        raise wrong("eventTypeId", "give eventTypeId, or eventTypeSlug with username or teamSlug")
    return CreateBody(
        start=read_moment(body, "start"),
        attendee=_attendee(body.get("attendee")),
        event_type_id=event_type_id,
        event_type_slug=slug,
        username=username,
        length=read_integer(body, "lengthInMinutes"),
        guests=_guests(body.get("guests")),
        location=_location(body),
        metadata=_metadata(body.get("metadata")),
        responses=_responses(body.get("bookingFieldsResponses")),
    )


def read_cancel(content: bytes) -> CancelBody:
    """Read the body of POST /v2/bookings/{uid}/cancel, which may be missing.

    Raises:
        Refusal: 400.
    """
    body = read_object(content, known=_CANCEL_FIELDS)
    read_flag(body, "cancelSubsequentBookings")
    return CancelBody(reason=read_text(body, "cancellationReason") or "", seat_uid=read_text(body, "seatUid"))


def _attendee(value: Any) -> Person:
    if not isinstance(value, dict):
        raise wrong("attendee", "attendee must be an object")
    prefix = "attendee."
    refuse_unknown(value, _ATTENDEE_FIELDS, prefix)
    name = read_text(value, "name", prefix=prefix)
    zone = read_zone(value, "timeZone", prefix=prefix)
    email = read_email(value, "email", prefix=prefix)
    phone = read_phone(value, "phoneNumber", prefix=prefix)
    language = read_language(value, "language", prefix=prefix)
    if not name:
        raise wrong("attendee.name", "name should not be empty")
    if not zone:
        raise wrong("attendee.timeZone", "timeZone must be a valid IANA time-zone")
    if not email and not phone:
        raise wrong("attendee", "at least one of email and phoneNumber is required")
    return Person(
        name=name,
        # Who gives a phone number only gets an address made from it.
        email=email or f"{(phone or '').lstrip('+')}@sms.example.com",
        time_zone=zone,
        phone=phone,
        language=language or "en",
    )


def _guests(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(is_email(one) for one in value):
        raise wrong("guests", "each value in guests must be an email")
    return tuple(value)


def read_reschedule(content: bytes) -> RescheduleBody:
    """Read the body of POST /v2/bookings/{uid}/reschedule.

    Raises:
        Refusal: 400, or 501 for a seat, which the simulator does not have.
    """
    body = read_object(content, known=_RESCHEDULE_FIELDS)
    if body.get("seatUid"):
        raise plain(501, "seatUid is not simulated")
    read_text(body, "emailVerificationCode")
    return RescheduleBody(
        start=read_moment(body, "start"),
        by=read_email(body, "rescheduledBy") or "",
        reason=read_text(body, "reschedulingReason") or "",
    )


def read_reason(content: bytes) -> str:
    """Read the body of a decline or a reassignment, which may be missing, and return the reason, or "".

    Raises:
        Refusal: 400.
    """
    return read_text(read_object(content), "reason") or ""


def _location(body: dict[str, Any]) -> str | None:
    value = body.get("location", body.get("meetingUrl"))
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, dict) or value.get("type") not in _LOCATION_TYPES:
        raise wrong("location", "location type is unknown")
    if value != {"type": "integration", "integration": "cal-video"}:
        raise nest(400, "The event type does not have this location; it has integration cal-video only")
    return None


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong("metadata", "metadata must be an object")
    if len(value) > _MAX_METADATA_KEYS:
        raise wrong("metadata", f"metadata must have at most {_MAX_METADATA_KEYS} keys")
    for key, content in value.items():
        if len(key) > _MAX_METADATA_KEY_LENGTH:
            raise wrong("metadata", f"metadata keys have at most {_MAX_METADATA_KEY_LENGTH} characters")
        if isinstance(content, str) and len(content) > _MAX_METADATA_VALUE_LENGTH:
            raise wrong("metadata", f"metadata values have at most {_MAX_METADATA_VALUE_LENGTH} characters")
    # Numbers and booleans get past the checks above, and fail in the schema behind them.
    if not all(isinstance(content, str) for content in value.values()):
        raise validator(400, "BAD_REQUEST", "metadata: expected string")
    return value


def _responses(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong("bookingFieldsResponses", "bookingFieldsResponses must be an object")
    return {name: "" if content is None else content for name, content in value.items()}
