"""Where an order stands, in a customer's words. Sagas, steps and errors stay behind this module."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from examples.webapp.orders import Order
from sagajobs import (
    AppointmentSummary,
    SagaCompensationException,
    SagaException,
    SagaHandle,
    SagaNotFinished,
    SagaNotFound,
    find_appointment,
)

_UNDER_WAY = {
    "held": "We have your wish, and are about to book the time.",
    "confirming": "We are asking the calendar. It may take a while if the calendar does not answer; you need not wait "
    "here, as we go on asking.",
    "confirmed": "One moment, please: your change is being made.",
    "being cancelled": "It is being taken back.",
}
_NEEDS_US = "Something did not go as it should. A person looks at it and will write to you; there is nothing to do."
_ON_REQUEST = "Your host has to confirm the time. This page shows it as soon as that has happened."

_REASONS = {
    "SlotTaken": "somebody else was faster, and the time is taken by now",
    "SlotNotFree": "somebody else was faster, and the time is taken by now",
    "LockNotAvailable": "another change came in between",
    "NoLongerPossible": "another change came in between",
}
"""By the class of what a saga failed of; of all others a customer need not know more than that it was refused."""
_REFUSED = "the calendar did not take it"

_VERBS = {"cancel": "cancelled", "reschedule": "moved"}


class Standing(NamedTuple):
    """Where an order stands.

    Attributes:
        status: held, confirming, confirmed, being cancelled, cancelled, needs us.
        message: what that means.
        starts_at: when the appointment is, or was to be.
        appointment_id: its number, None while there is none; not for the customer's eyes.
        settled: whether nothing of ours is under way.
    """

    status: str
    message: str
    starts_at: datetime
    appointment_id: int | None = None
    settled: bool = True

    @property
    def changeable(self) -> bool:
        """Whether the customer may cancel or move it now."""
        ahead = self.starts_at > datetime.now(UTC)
        return self.settled and ahead and self.status in ("confirming", "confirmed")


def standing_of(order: Order) -> Standing:
    """Return where an order stands.

    Raises:
        SagaNotFound: its saga was purged, and nothing is there that it has booked.
    """
    booking = SagaHandle(order.saga_id)
    try:
        appointment: AppointmentSummary = booking.result()
    except SagaNotFinished:
        return _under_way(booking, order.starts_at)
    except SagaCompensationException:
        return Standing("needs us", _NEEDS_US, order.starts_at)
    except SagaException:
        # Whoever went back and sent it once more has it by his first order.
        why = f"It could not be booked: {_why(booking)}. What you had booked before stands. Please choose another time."
        return Standing("cancelled", why, order.starts_at)
    except SagaNotFound:
        found = None if order.appointment_id is None else find_appointment(order.appointment_id)
        if found is None:
            raise
        appointment = found
    return _as_it_is(appointment, "") if order.change_id is None else _changed(appointment, SagaHandle(order.change_id))


def _under_way(saga: SagaHandle, start: datetime) -> Standing:
    word = saga.public_status()
    return Standing(word, _UNDER_WAY.get(word, ""), start, settled=False)


def _changed(appointment: AppointmentSummary, change: SagaHandle) -> Standing:
    """Return where an appointment stands that was to be changed."""
    try:
        change.result()
        told = f"You have {_verb(change)} it."
    except SagaNotFinished:
        return _under_way(change, appointment.starts_at)
    except SagaCompensationException:
        return Standing("needs us", _NEEDS_US, appointment.starts_at)
    except SagaException:
        told = f"It could not be {_verb(change)}: {_why(change)}. Your appointment stands as it was."
    except SagaNotFound:
        told = ""  # it ended long ago, and the appointment says how
    return _as_it_is(appointment, told)


def _as_it_is(appointment: AppointmentSummary, told: str) -> Standing:
    """Return where an appointment stands that nothing of ours is at work on; hosts may have changed it since."""
    start, number = appointment.starts_at, appointment.id
    if appointment.calcom_sync_status == "manual_review_required":
        return Standing("needs us", _NEEDS_US, start, number)
    if appointment.status in ("cancelled", "failed"):
        return Standing("cancelled", "The appointment does not take place.", start, number)
    if appointment.status == "pending":
        return Standing("confirming", f"{told} {_ON_REQUEST}".strip(), start, number)
    return Standing("confirmed", f"{told} We look forward to seeing you.".strip(), start, number)


def _verb(change: SagaHandle) -> str:
    return _VERBS[change.record().input["operation"]]


def _why(handle: SagaHandle) -> str:
    error = handle.record().error
    return _REFUSED if error is None else _REASONS.get(error["class"].rpartition(".")[2], _REFUSED)
