"""`SyncRequest`: what a web application asks for when an appointment is to be changed at Cal.com (SPEC 4, Sync)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    EmailStr,
    Field,
    PositiveInt,
    RootModel,
    Tag,
    model_validator,
)

from sagajobs.booking.request import Notes, Start, Text
from sagajobs.calcom.models import MAX_GUESTS, Location, LocationType


class SyncOperation(StrEnum):
    """What can be asked for."""

    CREATE = "create"
    UPDATE = "update"
    CANCEL = "cancel"
    RESCHEDULE = "reschedule"


def mailbox(email: str) -> str:
    """Return what Cal.com takes for one guest: the address in lower case, without what follows a + in it."""
    local, _, domain = email.lower().rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def _each_once(emails: tuple[str, ...]) -> tuple[str, ...]:
    return tuple({mailbox(email): email for email in reversed(emails)}.values())[::-1]


class _Model(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True, frozen=True, extra="forbid")


class Place(_Model):
    """Where an appointment takes place.

    Attributes:
        type: what kind of place, in Cal.com's words.
        place: the address, the URL, the phone number in international form, or free text.
    """

    type: LocationType
    place: Text = Field(repr=False)

    def as_location(self) -> Location:
        """Return it as the Cal.com client takes it."""
        return Location(self.type, self.place)


class CreateData(_Model):
    """Of an appointment that is to be booked at Cal.com everything stands in its row."""


class UpdateData(_Model):
    """What is to be changed without moving the appointment; what is None stays.

    Attributes:
        location: where it takes place from now on.
        guests: e-mail addresses to add, ten at the most; Cal.com takes nobody off the list again.
        notes: for whoever does it; kept here only, as Cal.com never changes a booking's.
    """

    location: Place | None = None
    guests: Annotated[
        tuple[Annotated[EmailStr, Field(max_length=254)], ...], Field(max_length=MAX_GUESTS), AfterValidator(_each_once)
    ] = Field(default=(), repr=False)
    notes: Notes | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _something(self) -> UpdateData:
        if self.location is None and not self.guests and self.notes is None:
            raise ValueError("names nothing to change: give location, guests or notes")
        return self


class CancelData(_Model):
    """Why an appointment is cancelled, for host and attendee."""

    reason: Text | None = Field(default=None, repr=False)


class RescheduleData(_Model):
    """Where an appointment is moved to.

    Attributes:
        start: the new one; the duration stays.
        reason: for host and attendee.
        rescheduled_by: e-mail address of who moves it. Where Cal.com wants confirmation, a move by anybody but the host
            is pending until he confirms it.
    """

    start: Start
    reason: Text | None = Field(default=None, repr=False)
    rescheduled_by: EmailStr | None = Field(default=None, repr=False, max_length=254)


class _Request(_Model):
    appointment_id: PositiveInt = Field(strict=True, le=2**63 - 1)


class CreateRequest(_Request):
    """Book an appointment that exists here only."""

    operation: Literal[SyncOperation.CREATE]
    data: CreateData = CreateData()


class UpdateRequest(_Request):
    """Change an appointment in its place."""

    operation: Literal[SyncOperation.UPDATE]
    data: UpdateData


class CancelRequest(_Request):
    """Cancel an appointment."""

    operation: Literal[SyncOperation.CANCEL]
    data: CancelData = CancelData()


class RescheduleRequest(_Request):
    """Move an appointment."""

    operation: Literal[SyncOperation.RESCHEDULE]
    data: RescheduleData


def _operation(request: Any) -> Any:
    return request.get("operation") if isinstance(request, Mapping) else getattr(request, "operation", None)


Request = CreateRequest | UpdateRequest | CancelRequest | RescheduleRequest


class SyncRequest(
    RootModel[
        Annotated[
            Annotated[CreateRequest, Tag("create")]
            | Annotated[UpdateRequest, Tag("update")]
            | Annotated[CancelRequest, Tag("cancel")]
            | Annotated[RescheduleRequest, Tag("reschedule")],
            Discriminator(
                _operation,
                custom_error_type="operation",
                custom_error_message=f"operation is one of {', '.join(SyncOperation)}",
            ),
        ]
    ]
):
    """One change of one appointment: `appointment_id`, `operation`, and the operation's own `data`.

    Whether the appointment exists, and whether the change makes sense as it stands, is checked when the saga is started
    (`AppointmentSyncSaga.check`) and once more when it is its turn.
    """

    model_config = ConfigDict(hide_input_in_errors=True, frozen=True)
