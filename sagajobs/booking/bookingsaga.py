"""`BookingSaga`: what the sagas that book, change and follow appointments have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from sqlalchemy.orm import Session

from sagajobs.booking.local import audit
from sagajobs.booking.services import BookingServices
from sagajobs.calcom.models import BookingStatus
from sagajobs.saga import Saga, SagaState, StepState
from sagajobs.saga.records import SagaRecord, StepGlance


class BookingSaga(Saga, abstract=True):
    """A saga about appointments, with the booking domain's services."""

    services: ClassVar[BookingServices]
    shown: ClassVar[frozenset[str]] = frozenset(
        (
            *("appointment_id", "appointment_ids", "composite_id", "event_type_id", "staff_id", "sync_saga_id"),
            *("uid", "uids", "uid_before", "calcom_booking_uid", "booking_uid"),
            *("start", "end", "start_before", "starts_at", "ends_at", "deleted_at", "duration_minutes"),
            *("operation", "trigger", "status", "status_read_back", "calcom", "calcom_sync_status"),
            *("adopted", "changed", "forgotten", "nothing_to_do"),
            # Names of fields, never what stands in them.
            *("fields", "fixed", "not_synced", "not_restored", "cannot_be_taken_back", "may_stand"),
        )
    )
    """No customer's number: it is a person's."""

    @classmethod
    def conditions(cls) -> Mapping[str, Any]:
        """Return the state of Cal.com's circuit."""
        return cls.services.conditions()

    def audit(self, db: Session, action: str, appointment_id: int, **detail: Any) -> None:
        """Write an audit row about an appointment, in the transaction of what it tells of."""
        audit(
            db,
            actor=self.services.actor,
            action=action,
            appointment_id=appointment_id,
            saga_id=self.id,
            detail=detail,
        )


def standing_of(record: SagaRecord, bookings: Iterable[StepGlance]) -> str:
    """Return the customer's word for a saga that books (SPEC 6): the steps that do so are `bookings`."""
    words = {
        SagaState.COMPENSATING: "being cancelled",
        SagaState.COMPENSATED: "cancelled",
        SagaState.MANUAL_REVIEW_REQUIRED: "needs us",
    }
    if record.state in words:
        return words[record.state]
    bookings = list(bookings)
    if all(glance.state is StepState.DONE for glance in bookings):
        accepted = all(glance.output["status"] == BookingStatus.ACCEPTED for glance in bookings)
        return "confirmed" if accepted else "confirming"
    begun = any(glance.state is not StepState.WAITING or glance.attempts for glance in bookings)
    return "confirming" if begun else "held"


def evidence_of(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes into the audit trail of a cancelled booking.

    An operator who says that it is undone has no uids to show, only his name.
    """
    return {name: receipt[name] for name in ("uids", "by_hand") if name in receipt}
