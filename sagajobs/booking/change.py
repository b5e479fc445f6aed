"""A change of an appointment that Cal.com is told of: what all four have in common (`sagajobs.booking.changes`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sagajobs.booking.local import assign_host, slot_is_taken
from sagajobs.booking.outside import METADATA_KEY, find_standing
from sagajobs.booking.services import BookingServices
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.models import Booking
from sagajobs.calcom.operations import Operation
from sagajobs.calcom.priority import Priority

STANDING_HERE = ("pending", "scheduled", "confirmed", "rescheduled")
"""Statuses of an appointment that can still be changed, moved or cancelled."""

Data = TypeVar("Data", bound=BaseModel)


def snapshot(row: Row[Any]) -> dict[str, Any]:
    """Return an appointment as it goes on record before a change: what the change needs, and what an undo restores."""
    names = ("status", "calcom_sync_status", "sync_saga_id", "event_type_id", "staff_id", "location", "guests", "notes")
    who = ("customer_name", "customer_email", "customer_phone", "customer_time_zone")
    return {
        "uid": row.calcom_v2_booking_id,
        "starts_at": row.starts_at.astimezone(UTC).isoformat(),
        "ends_at": row.ends_at.astimezone(UTC).isoformat(),
        **{name: row._mapping[name] for name in (*names, *who)},  # noqa: SLF001 - SQLAlchemy's public name for it
    }


@dataclass(frozen=True)
class Change(ABC, Generic[Data]):
    """One change of one appointment.

    Attributes:
        services: what booking sagas work with.
        appointment_id: the appointment.
        before: the appointment as it stood when it was this change's turn (`snapshot`).
        data: what is asked for.
    """

    services: BookingServices
    appointment_id: int
    before: Mapping[str, Any]
    data: Data

    needs_booking: ClassVar[bool] = True

    # --- what it needs ---

    def problems(self) -> list[str]:
        """Return what keeps the appointment, as it stands, from being changed: one line each."""
        number, status, uid = self.appointment_id, self.before["status"], self.before["uid"]
        if self.idle():
            return []
        if status not in STANDING_HERE:
            return [f"appointment_id: appointment {number} is {status}"]
        if self.needs_booking and uid is None:
            return [f"appointment_id: appointment {number} is not booked at Cal.com; create it there first"]
        return []

    def untimely(self) -> list[str]:
        """Return what is wrong with the request whatever becomes of the appointment meanwhile: one line each."""
        return (
            [f"appointment_id: appointment {self.appointment_id} is over"] if self.ends_at <= datetime.now(UTC) else []
        )

    def idle(self) -> bool:
        """Tell whether nothing is left to do: a change may be asked for twice."""
        return False

    def until(self) -> datetime:
        """Return the time after which the change is of no use to anybody."""
        return self.ends_at

    # --- at Cal.com ---

    @property
    @abstractmethod
    def calls(self) -> tuple[Operation, ...]:
        """What it may have to call; nothing, where it is made here only."""

    def turn(self) -> float:
        """Return the seconds until Cal.com's quota may have something left for all calls of the change, or 0."""
        return self._client.turn(*self.calls) if self.calls else 0.0

    @property
    def may_stand(self) -> tuple[str, ...]:
        """What an attempt may have left at Cal.com though no look finds the whole change there: names."""
        return ()

    @abstractmethod
    def call(self, key: str) -> dict[str, Any]:
        """Have Cal.com do it; return the booking (`seen`), and what it could not take or take back."""

    @abstractmethod
    def find(self, key: str) -> dict[str, Any] | None:
        """Look whether it is done; return what `call` would have."""

    def find_made_by_hand(self, uid: str, key: str) -> dict[str, Any] | None:  # noqa: ARG002 - it is our booking or none
        """Look whether somebody has done it, who refers to booking `uid`."""
        return self.find(key)

    # --- here ---

    @abstractmethod
    def apply(self, db: Session, booking: Mapping[str, Any]) -> dict[str, Any]:
        """Change the appointment accordingly; return what the audit trail tells of it."""

    # --- shared ---

    @property
    def starts_at(self) -> datetime:
        """When the appointment begins, or began."""
        return datetime.fromisoformat(self.before["starts_at"])

    @property
    def ends_at(self) -> datetime:
        """When the appointment ends."""
        return datetime.fromisoformat(self.before["ends_at"])

    @property
    def _client(self) -> CalcomClient:
        return self.services.calcom.at(Priority.of(min(self.starts_at, self.until()), datetime.now(UTC)))

    @property
    def _looking(self) -> CalcomClient:
        """The client of a probe: until it has looked, nobody knows what is booked."""
        return self.services.calcom.at(Priority.UNDO)

    def _made_by_hand(self, uid: str, start: datetime, key: str) -> Booking | None:
        """Return a booking that somebody has made for this appointment: of its kind, its customer and that time."""
        booking = find_standing(self._looking, uid)
        email = self.before["customer_email"].lower()
        ours = any((person.email or "").lower() == email for person in booking.attendees)
        wanted = booking.start == start and booking.event_type_id == self.before["event_type_id"]
        # One with another key is another appointment's.
        return booking if ours and wanted and booking.metadata.get(METADATA_KEY, key) == key else None

    def _assign_host(self, db: Session, booking: Mapping[str, Any]) -> None:
        """Follow Cal.com's choice of host where our books allow it; where not, the appointment stands all the same."""
        try:
            with db.begin_nested():
                assign_host(db, self.appointment_id, booking["host"])
        except IntegrityError as error:
            if not slot_is_taken(error):
                raise
