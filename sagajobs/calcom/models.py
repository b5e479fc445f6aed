"""What goes to Cal.com and what comes back, as frozen values.

Parsing is tolerant (unknown fields are ignored, what only decorates may be missing) but not lax: a booking
without uid, status or times is no booking, and the caller must not take it for one. No `repr` shows anything
about a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AliasChoices, AliasPath, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, RootModel
from pydantic.alias_generators import to_camel

from sagajobs.calcom.errors import InvalidRequest

# Cal.com API v2, POST /v2/bookings: more than this is a 400.
MAX_METADATA_KEYS = 50
MAX_METADATA_KEY_LENGTH = 40
MAX_METADATA_VALUE_LENGTH = 500

# Cal.com API v2, POST /v2/bookings/{}/guests: more in one call is a 400.
MAX_GUESTS = 10

# Booking uids are short uuids. Nothing else may get into a path: an empty uid would turn "get" into "list".
_UID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class BookingStatus(StrEnum):
    """The four statuses that API v2 shows; there is none for "over" or "moved"."""

    ACCEPTED = "accepted"
    PENDING = "pending"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class LocationType(StrEnum):
    """Where a booking can be moved to by API v2; the values are its words."""

    ADDRESS = "address"
    ATTENDEE_ADDRESS = "attendeeAddress"
    ATTENDEE_DEFINED = "attendeeDefined"
    ATTENDEE_PHONE = "attendeePhone"
    LINK = "link"
    PHONE = "phone"


# Cal.com API v2, PATCH /v2/bookings/{}/location: under which name the place itself is sent.
_PLACE = {
    LocationType.ADDRESS: "address",
    LocationType.ATTENDEE_ADDRESS: "address",
    LocationType.ATTENDEE_DEFINED: "location",
    LocationType.ATTENDEE_PHONE: "phone",
    LocationType.LINK: "link",
    LocationType.PHONE: "phone",
}


@dataclass(frozen=True, slots=True)
class Location:
    """A place for a booking.

    Args:
        type: what kind of place.
        place: the address, the URL, the phone number in international form, or free text.

    Raises:
        InvalidRequest: if there is no place.
    """

    type: LocationType
    place: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.place.strip():
            raise InvalidRequest("a location needs a place: an address, a URL, a phone number or a text")

    def to_json(self) -> dict[str, str]:
        """Return it as Cal.com wants it."""
        return {"type": self.type.value, _PLACE[self.type]: self.place}


def checked_guests(emails: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses if they can be added in one call.

    Raises:
        InvalidRequest: if there are none, or more than `MAX_GUESTS`.
    """
    if not 1 <= len(emails) <= MAX_GUESTS:
        raise InvalidRequest(f"a call adds 1 to {MAX_GUESTS} guests; split what is more")
    return tuple(emails)


def checked_uid(uid: str) -> str:
    """Return `uid` if it can be part of a path.

    Raises:
        InvalidRequest: if it cannot.
    """
    if not _UID.fullmatch(uid):
        raise InvalidRequest("a booking uid is letters, digits, - and _ only")
    return uid


def timestamp(moment: datetime) -> str:
    """Write an aware datetime as Cal.com does: UTC, milliseconds, Z.

    Raises:
        InvalidRequest: if `moment` has no time zone.
    """
    if moment.tzinfo is None:
        raise InvalidRequest("a date and time for Cal.com must have a time zone")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBooking:
    """A booking to be made; what Cal.com is known to refuse is refused here, before anything is sent.

    Args:
        event_type_id: what is booked.
        start: aware; Cal.com keeps milliseconds.
        attendee_name: as it shall stand in the calendar.
        attendee_time_zone: IANA name, for the mails.
        attendee_email: e-mail address or `attendee_phone` must be there.
        attendee_phone: in international form, "+" and digits.
        attendee_language: of the mails, one of Cal.com's codes.
        length_in_minutes: only for an event type with several lengths; others refuse it.
        notes: free text for the host.
        metadata: strings only, which Cal.com keeps with the booking and never changes; at most 50 keys of 40
            characters and values of 500.

    Raises:
        InvalidRequest: if Cal.com would refuse it.
    """

    event_type_id: int
    start: datetime
    attendee_name: str = field(repr=False)
    attendee_time_zone: str = field(repr=False)
    attendee_email: str | None = field(default=None, repr=False)
    attendee_phone: str | None = field(default=None, repr=False)
    attendee_language: str = field(default="en", repr=False)
    length_in_minutes: int | None = None
    notes: str | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        timestamp(self.start)
        if not (self.attendee_email or self.attendee_phone):
            raise InvalidRequest("an attendee needs an e-mail address or a phone number")
        if not self.attendee_name.strip():
            raise InvalidRequest("an attendee needs a name")
        _check_metadata(self.metadata)

    def to_json(self) -> dict[str, Any]:
        """Return the body of POST /v2/bookings; a field that Cal.com does not know would be a 400."""
        attendee = {
            "name": self.attendee_name,
            "timeZone": self.attendee_time_zone,
            "language": self.attendee_language,
        }
        if self.attendee_email:
            attendee["email"] = self.attendee_email
        if self.attendee_phone:
            attendee["phoneNumber"] = self.attendee_phone
        body: dict[str, Any] = {
            "eventTypeId": self.event_type_id,
            "start": timestamp(self.start),
            "attendee": attendee,
        }
        if self.length_in_minutes is not None:
            body["lengthInMinutes"] = self.length_in_minutes
        if self.notes:
            body["bookingFieldsResponses"] = {"notes": self.notes}
        if self.metadata:
            body["metadata"] = dict(self.metadata)
        return body

    def personal(self) -> tuple[str, ...]:
        """Return what this says about a person, for taking it out of an answer that quotes it."""
        values = (
            self.attendee_name,
            *self.attendee_name.split(),
            self.attendee_email,
            self.attendee_phone,
            self.notes,
        )
        return tuple(value for value in values if value)


def _check_metadata(metadata: Mapping[Any, Any]) -> None:
    if len(metadata) > MAX_METADATA_KEYS:
        raise InvalidRequest(f"metadata has more than {MAX_METADATA_KEYS} keys")
    for key, value in metadata.items():
        if not isinstance(key, str) or len(key) > MAX_METADATA_KEY_LENGTH:
            raise InvalidRequest(f"a metadata key must be a string of at most {MAX_METADATA_KEY_LENGTH}")
        # Numbers and booleans pass Cal.com's first validator and fail in its second one.
        if not isinstance(value, str) or len(value) > MAX_METADATA_VALUE_LENGTH:
            raise InvalidRequest(f"a metadata value must be a string of at most {MAX_METADATA_VALUE_LENGTH}")


def _empty_for_null(value: Any) -> Any:
    return {} if value is None else value


class _Received(BaseModel):
    """A part of an answer: camelCase outside, snake_case inside, no input quoted in validation errors."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )


class Host(_Received):
    """The person a booking is with. Of a team event, only the organizer is shown as host."""

    id: int
    name: str | None = Field(default=None, repr=False)
    email: str | None = Field(default=None, repr=False)
    username: str | None = Field(default=None, repr=False)
    time_zone: str | None = Field(default=None, repr=False)


class Attendee(_Received):
    """A person who booked, or a co-host of a team event."""

    name: str | None = Field(default=None, repr=False)
    email: str | None = Field(default=None, repr=False)
    phone_number: str | None = Field(default=None, repr=False)
    time_zone: str | None = Field(default=None, repr=False)
    language: str | None = Field(default=None, repr=False)
    absent: bool | None = None


class Booking(_Received):
    """A booking as Cal.com shows it.

    Attributes:
        uid: what every call names it by; a reschedule makes a new one.
        status: one of `BookingStatus`, or a word that is newer than this package.
        duration: minutes.
        event_type_id: None if the event type is gone.
        location: an address, a URL, a phone number or a word for one of Cal.com's integrations.
        absent_host: whether the host was marked as absent; `Attendee.absent` says it of the others.
        metadata: as given at creation; Cal.com has no way to change it afterwards.
        rescheduling_reason: why this one took the place of another, as was said then.
        rescheduled_from_uid: the booking that this one took the place of.
        rescheduled_to_uid: the booking that took the place of this one, which is then `cancelled`.
        updated_at: None until the first change.
    """

    uid: str = Field(min_length=1)
    id: int
    status: str
    start: AwareDatetime
    end: AwareDatetime
    duration: int | None = None
    # The plain `eventTypeId` is deprecated in favour of the object.
    event_type_id: int | None = Field(
        default=None, validation_alias=AliasChoices(AliasPath("eventType", "id"), "eventTypeId")
    )
    event_type_slug: str | None = Field(default=None, validation_alias=AliasPath("eventType", "slug"))
    hosts: tuple[Host, ...] = ()
    attendees: tuple[Attendee, ...] = ()
    guests: tuple[str, ...] = Field(default=(), repr=False)
    metadata: Annotated[dict[str, Any], BeforeValidator(_empty_for_null)] = Field(default_factory=dict, repr=False)
    location: str | None = Field(default=None, repr=False)
    absent_host: bool | None = None
    cancellation_reason: str | None = Field(default=None, repr=False)
    rescheduling_reason: str | None = Field(default=None, repr=False)
    rescheduled_from_uid: str | None = None
    rescheduled_to_uid: str | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


class EventType(_Received):
    """What can be booked.

    Attributes:
        length: minutes, when a booking names no length.
        lengths: every length that may be chosen, in minutes.
        requires_confirmation: bookings start as `pending` and do not block the slot.
        recurring: one booking call makes a series.
        seated: one booking has several attendees.
        scheduling: "roundRobin", "collective" or "managed" for team event types.
    """

    id: int
    slug: str
    title: str = ""
    length: int = Field(validation_alias="lengthInMinutes")
    length_options: tuple[int, ...] | None = Field(default=None, validation_alias="lengthInMinutesOptions", repr=False)
    confirmation_policy: dict[str, Any] | None = Field(default=None, repr=False)
    price: float = 0
    recurrence: dict[str, Any] | None = Field(default=None, repr=False)
    seats: dict[str, Any] | None = Field(default=None, repr=False)
    scheduling: str | None = Field(default=None, validation_alias="schedulingType")

    @property
    def lengths(self) -> tuple[int, ...]:
        """Every length that may be chosen, in minutes."""
        return self.length_options or (self.length,)

    @property
    def requires_confirmation(self) -> bool:
        """Whether bookings start as `pending`: by policy, or because they must be paid first."""
        return _enabled(self.confirmation_policy) or self.price > 0

    @property
    def recurring(self) -> bool:
        """Whether one call makes a series of bookings."""
        return _enabled(self.recurrence)

    @property
    def seated(self) -> bool:
        """Whether several attendees share one booking."""
        return _enabled(self.seats)


def _enabled(setting: Mapping[str, Any] | None) -> bool:
    """Tell whether a part of an event type is on; Cal.com writes "off" as absent, null or disabled."""
    return bool(setting) and not (setting or {}).get("disabled")


class FreeSlot(_Received):
    """A time at which something can be booked, as far as Cal.com knows."""

    start: AwareDatetime


class FreeSlots(RootModel[dict[str, tuple[FreeSlot, ...]]]):
    """Free slots as Cal.com shows them, by day."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    @property
    def starts(self) -> list[datetime]:
        """When they begin, the first one first."""
        return sorted(slot.start for day in self.root.values() for slot in day)


class Me(_Received):
    """The user whom the API key belongs to."""

    id: int
    username: str | None = Field(default=None, repr=False)
    email: str | None = Field(default=None, repr=False)
    name: str | None = Field(default=None, repr=False)
    time_zone: str | None = Field(default=None, repr=False)
