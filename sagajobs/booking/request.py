"""`BookingRequest`: what a web application asks for when it books an appointment (SPEC 10)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    PositiveInt,
    StringConstraints,
)

_ZONES = frozenset(available_timezones()) - {"Factory", "localtime"}  # of this machine, not of the customer

FIRST_START, LAST_START = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Beyond them lie times that are no year of Python's in some time zone, and that could not be read back."""

MAX_DURATION = 24 * 60
"""Minutes: an appointment lasts a day at the most."""


def _known_zone(name: str) -> str:
    if name not in _ZONES:
        raise ValueError("is not an IANA time zone such as Europe/Berlin")
    return name


def _to_milliseconds(moment: datetime) -> datetime:
    """Cut what Cal.com does not keep, so that its times and ours are equal; in UTC, where an hour is an hour."""
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")
]
Phone = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^\+[1-9]\d{6,14}$")]
"""E.164: Cal.com takes no other form."""
Notes = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000, pattern=r"^[^\x00]*$")]
BookingUid = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
TimeZone = Annotated[str, AfterValidator(_known_zone)]
Start = Annotated[AwareDatetime, Field(gt=FIRST_START, lt=LAST_START), AfterValidator(_to_milliseconds)]


class Customer(BaseModel):
    """Who the appointment is for.

    Attributes:
        name: as he or she is to be called, 200 characters at the most.
        email: one customer per address, whatever its case.
        phone: E.164, as in +4930123456.
        time_zone: IANA name.
    """

    model_config = ConfigDict(hide_input_in_errors=True, frozen=True, extra="forbid")

    name: Text = Field(repr=False)
    email: EmailStr = Field(repr=False, max_length=254)
    phone: Phone | None = Field(default=None, repr=False)
    time_zone: TimeZone = "UTC"


class Slot(BaseModel):
    """What to book, and when.

    Attributes:
        event_type_id: Cal.com's number for the kind of appointment.
        start: when, with its offset from UTC; kept as Cal.com does, in UTC and to the millisecond.
        duration_minutes: how long.
        staff_id: our number for who is to do it; None leaves it to Cal.com.
        notes: for whoever does it, 2000 characters at the most.
    """

    model_config = ConfigDict(hide_input_in_errors=True, frozen=True, extra="forbid")

    event_type_id: PositiveInt = Field(strict=True, le=2**31 - 1)
    start: Start
    duration_minutes: PositiveInt = Field(strict=True, le=MAX_DURATION)
    staff_id: PositiveInt | None = Field(default=None, strict=True, le=2**63 - 1)
    notes: Notes | None = Field(default=None, repr=False)

    @property
    def end(self) -> AwareDatetime:
        """When the appointment is over."""
        return self.start + timedelta(minutes=self.duration_minutes)


class BookingRequest(Slot):
    """One appointment for one customer.

    Whether the start lies in the past, and whether event type and staff member exist, is checked when the saga is
    started (`AppointmentCreationSaga.check`): a stored request must stay readable after its time.

    Attributes:
        customer: who it is for.
        calcom_booking_uid: a booking that exists at Cal.com already and is to be adopted.
    """

    customer: Customer
    calcom_booking_uid: BookingUid | None = None
