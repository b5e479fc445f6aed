"""What Cal.com shows of a booking, and what follows from it for our appointment: values and pure functions.

For each uid the states only move forward: pending, accepted, then cancelled, rejected or moved. So a stale look and a
wrong order can be told from news: what lies behind the row is ignored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sagajobs.booking.outside import LONGEST_TRAIL, STANDING
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.models import BookingStatus
from sagajobs.calcom.webhooks import Trigger
from sagajobs.errors import PermanentError

GONE = (BookingStatus.CANCELLED, BookingStatus.REJECTED)
"""Statuses of a booking that is not, unless it was moved."""

OVER = ("cancelled", "failed", "completed")
"""Statuses of an appointment that nothing at Cal.com brings back or takes back."""


class Host(BaseModel):
    """Whom a booking is with: Cal.com's number for him, and his e-mail address."""

    model_config = ConfigDict(hide_input_in_errors=True, frozen=True)

    id: int
    email: str | None = Field(default=None, repr=False)


class Sight(BaseModel):
    """A booking as it was seen, at the end of its trail of moves.

    Attributes:
        uids: from the one that was asked for to the last one; each move makes another uid.
        status: of the last one; likewise its start, end and host.
    """

    model_config = ConfigDict(hide_input_in_errors=True, frozen=True)

    uids: tuple[str, ...]
    status: str
    start: AwareDatetime
    end: AwareDatetime
    host: Host | None

    @property
    def uid(self) -> str:
        """The last uid."""
        return self.uids[-1]


class Standing(NamedTuple):
    """What of an appointment's row can follow its booking; the names are the columns'."""

    calcom_v2_booking_id: str | None
    status: str
    calcom_sync_status: str
    starts_at: datetime
    ends_at: datetime


def look_up(client: CalcomClient, uid: str) -> Sight:
    """Return a booking as Cal.com shows it, followed to where it was moved.

    Raises:
        BookingNotFound: Cal.com does not know it, or its replica does not yet.
        CalcomError: as `CalcomClient.get_booking`.
    """
    uids: list[str] = []
    following: str | None = uid
    while following is not None:
        if len(uids) == LONGEST_TRAIL:
            raise PermanentError(f"booking {uid} was moved more than {LONGEST_TRAIL} times: follow it by hand")
        booking = client.get_booking(following)
        uids.append(following)
        following = booking.rescheduled_to_uid
    host = booking.hosts[0] if booking.hosts else None
    return Sight(
        uids=tuple(uids),
        status=booking.status,
        start=booking.start,
        end=booking.end,
        host=None if host is None else Host(id=host.id, email=host.email),
    )


def is_news(trigger: Trigger, uid: str, row: Standing) -> bool:
    """Tell whether a webhook about a booking can mean anything new for an appointment.

    Most webhooks tell us what we have done ourselves. A look at Cal.com for each of them would be half of our quota.
    """
    if row.status in OVER:
        return False
    if row.calcom_v2_booking_id != uid or row.calcom_sync_status != "synced":
        return True
    echoes = {
        Trigger.CREATED: row.status != "pending",
        Trigger.PAID: row.status != "pending",
        Trigger.REQUESTED: True,
        Trigger.RESCHEDULED: row.status != "pending",
    }
    return not echoes.get(trigger, False)


def shows(trigger: str | None, uid: str, sight: Sight) -> bool:
    """Tell whether a look at Cal.com shows what a webhook about `uid` said.

    It need not, for some seconds: a cancel is told before it is done, and reads come from a replica that lags.
    """
    if trigger not in _TELLING:
        return True
    if uid in sight.uids[:-1]:
        return True  # moved on since
    if uid != sight.uid:
        return False
    if trigger in (Trigger.CANCELLED, Trigger.REJECTED):
        return sight.status in GONE
    return trigger != Trigger.CREATED or sight.status != BookingStatus.PENDING


_TELLING = (Trigger.CREATED, Trigger.REQUESTED, Trigger.RESCHEDULED, Trigger.CANCELLED, Trigger.REJECTED)
"""Triggers that say what a look must show; the others only say that there may be something to see."""


def aligned(row: Standing, sight: Sight) -> Standing:
    """Return what an appointment's row has to be, given what Cal.com shows; the row itself if nothing follows."""
    if row.status in OVER or row.calcom_v2_booking_id != sight.uids[0]:
        return row  # over, or not the booking that was looked at: there has been somebody else
    if sight.status in GONE:
        return row._replace(calcom_v2_booking_id=sight.uid, status="cancelled", calcom_sync_status="cancelled")
    if sight.status not in STANDING:
        return row  # a word that is newer than this code: nothing can be concluded
    moved = sight.uid != row.calcom_v2_booking_id
    accepted = sight.status == BookingStatus.ACCEPTED
    if moved:
        status = "rescheduled" if accepted else "pending"
    elif accepted and row.status == "pending":
        status = "scheduled"
    else:
        status = row.status  # an accepted booking that reads pending again is an old reading
    return Standing(sight.uid, status, "synced", sight.start, sight.end)


def differences(old: Standing, new: Standing) -> dict[str, Any]:
    """Return the columns that differ, with their new values."""
    return {name: value for name, was, value in zip(Standing._fields, old, new, strict=True) if was != value}
