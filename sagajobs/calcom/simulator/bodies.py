"""Strict reading of request bodies: whatever Cal.com API v2 does not know or want in one is a 400."""

from __future__ import annotations

import functools
import json
import re
import zoneinfo
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sagajobs.calcom.simulator.ledger import Person
from sagajobs.calcom.simulator.replies import Refusal, nest, plain, validator

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_E164 = re.compile(r"\+[1-9]\d{6,14}")

_CREATE_FIELDS = frozenset(
    {
        "start", "attendee", "bookingFieldsResponses", "eventTypeId", "eventTypeSlug", "username", "teamSlug",
        "organizationSlug", "guests", "meetingUrl", "location", "metadata", "lengthInMinutes", "routing",
        "emailVerificationCode", "rrHostSubsetIds", "recurrenceCount", "instant",
    }
)  # fmt: skip
_ATTENDEE_FIELDS = frozenset({"name", "email", "timeZone", "phoneNumber", "language"})
_CANCEL_FIELDS = frozenset({"cancellationReason", "cancelSubsequentBookings", "seatUid"})
_LOCATION_TYPES = frozenset(
    {
        "address", "attendeeAddress", "attendeeDefined", "attendeePhone", "integration", "link", "phone",
        "organizersDefaultApp",
    }
)  # fmt: skip
_LANGUAGES = frozenset(
    {
        "ar", "ca", "de", "es", "eu", "he", "id", "ja", "lv", "pl", "ro", "sr", "th", "vi", "az", "cs", "el",
        "es-419", "fi", "hr", "it", "km", "nl", "pt", "ru", "sv", "tr", "zh-CN", "bg", "da", "en", "et", "fr",
        "hu", "iw", "ko", "no", "pt-BR", "sk", "ta", "uk", "zh-TW", "bn",
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


def read_create(content: bytes) -> CreateBody:
    """Read the body of POST /v2/bookings.

    Raises:
        Refusal: 400, or 501 for the variants that the simulator does not have.
    """
    body = _object(content, _CREATE_FIELDS)
    for variant in ("recurrenceCount", "instant"):
        if body.get(variant):
            raise plain(501, f"{variant} is not simulated")
    event_type_id = body.get("eventTypeId")
    slug, username = (_text(body, name) for name in ("eventTypeSlug", "username"))
    if event_type_id is None and not (slug and username):
        if slug and _text(body, "teamSlug"):
            raise plain(501, "teamSlug is not simulated")
        raise _wrong("eventTypeId", "give eventTypeId, or eventTypeSlug with username or teamSlug")
    if event_type_id is not None and not _is_integer(event_type_id):
        raise _wrong("eventTypeId", "eventTypeId must be an integer")
    length = body.get("lengthInMinutes")
    if length is not None and not _is_integer(length):
        raise _wrong("lengthInMinutes", "lengthInMinutes must be an integer")
    return CreateBody(
        start=_start(body),
        attendee=_attendee(body.get("attendee")),
        event_type_id=event_type_id,
        event_type_slug=slug,
        username=username,
        length=length,
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
    body = _object(content or b"{}", _CANCEL_FIELDS)
    if not isinstance(body.get("cancelSubsequentBookings", False), bool):
        raise _wrong("cancelSubsequentBookings", "cancelSubsequentBookings must be a boolean value")
    return CancelBody(reason=_text(body, "cancellationReason") or "", seat_uid=_text(body, "seatUid"))


def _wrong(name: str, why: str) -> Refusal:
    return nest(400, f"{name} property is wrong,{why}")


def _object(content: bytes, known: frozenset[str]) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        raise nest(400, "The body is not valid JSON") from None
    if not isinstance(body, dict):
        raise nest(400, "The body must be an object")
    _only(body, known)
    return body


def _only(value: dict[str, Any], known: frozenset[str], prefix: str = "") -> None:
    for name in value:
        if name not in known:
            raise _wrong(prefix + name, f"property {name} should not exist")


def _text(body: dict[str, Any], name: str, *, prefix: str = "") -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong(prefix + name, f"{name} must be a string")
    return value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _start(body: dict[str, Any]) -> datetime:
    text = _text(body, "start")
    try:
        start = datetime.fromisoformat(text or "")
    except ValueError:
        raise _wrong("start", "start must be a valid ISO 8601 date string") from None
    start = (start if start.tzinfo else start.replace(tzinfo=UTC)).astimezone(UTC)
    return start.replace(microsecond=start.microsecond // 1000 * 1000)


def _attendee(value: Any) -> Person:
    if not isinstance(value, dict):
        raise _wrong("attendee", "attendee must be an object")
    _only(value, _ATTENDEE_FIELDS, "attendee.")
    name, zone, email, phone, language = (
        _text(value, field_name, prefix="attendee.")
        for field_name in ("name", "timeZone", "email", "phoneNumber", "language")
    )
    if not name:
        raise _wrong("attendee.name", "name should not be empty")
    if not zone or zone not in _time_zones():
        raise _wrong("attendee.timeZone", "timeZone must be a valid IANA time-zone")
    if not email and not phone:
        raise _wrong("attendee", "at least one of email and phoneNumber is required")
    if email and not _EMAIL.fullmatch(email):
        raise _wrong("attendee.email", "email must be an email")
    if phone and not _E164.fullmatch(phone):
        raise _wrong("attendee.phoneNumber", "phoneNumber must be in international format")
    if language and language not in _LANGUAGES:
        raise _wrong("attendee.language", "language must be one of the known codes")
    return Person(
        name=name,
        # Who gives a phone number only gets an address made from it.
        email=email or f"{(phone or '').lstrip('+')}@sms.example.com",
        time_zone=zone,
        phone=phone,
        language=language or "en",
    )


@functools.cache
def _time_zones() -> frozenset[str]:
    """Return every IANA name; cached, because finding them reads a whole directory tree."""
    return frozenset(zoneinfo.available_timezones())


def _guests(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) and _EMAIL.fullmatch(one) for one in value):
        raise _wrong("guests", "each value in guests must be an email")
    return tuple(value)


def _location(body: dict[str, Any]) -> str | None:
    value = body.get("location", body.get("meetingUrl"))
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, dict) or value.get("type") not in _LOCATION_TYPES:
        raise _wrong("location", "location type is unknown")
    if value != {"type": "integration", "integration": "cal-video"}:
        raise nest(400, "The event type does not have this location; it has integration cal-video only")
    return None


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong("metadata", "metadata must be an object")
    if len(value) > _MAX_METADATA_KEYS:
        raise _wrong("metadata", f"metadata must have at most {_MAX_METADATA_KEYS} keys")
    for key, content in value.items():
        if len(key) > _MAX_METADATA_KEY_LENGTH:
            raise _wrong("metadata", f"metadata keys have at most {_MAX_METADATA_KEY_LENGTH} characters")
        if isinstance(content, str) and len(content) > _MAX_METADATA_VALUE_LENGTH:
            raise _wrong("metadata", f"metadata values have at most {_MAX_METADATA_VALUE_LENGTH} characters")
    # Numbers and booleans get past the checks above, and fail in the schema behind them.
    if not all(isinstance(content, str) for content in value.values()):
        raise validator(400, "BAD_REQUEST", "metadata: expected string")
    return value


def _responses(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong("bookingFieldsResponses", "bookingFieldsResponses must be an object")
    return {name: "" if content is None else content for name, content in value.items()}
