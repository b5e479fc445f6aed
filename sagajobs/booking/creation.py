"""`AppointmentCreationSaga`: an appointment is booked here and at Cal.com, or nowhere (SPEC 4)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from sagajobs.booking.appointment import Appointment
from sagajobs.booking.bookingsaga import BookingSaga, evidence_of, standing_of
from sagajobs.booking.compensation import CalcomCompensationService, DatabaseCompensationService
from sagajobs.booking.errors import NothingToAdopt
from sagajobs.booking.local import (
    appointment_lock,
    assign_host,
    find_or_create_customer,
    insert_appointment,
    mark_for_review,
    mark_settled,
    note_booking,
    note_cancellation,
)
from sagajobs.booking.outside import (
    CALCOM_RETRY,
    CALCOM_UNDO_RETRY,
    CANCEL_REASON,
    away,
    find_brought,
    find_made,
    make_booking,
    slot_problems,
    turn_to_book,
)
from sagajobs.booking.request import BookingRequest
from sagajobs.booking.schema import staff
from sagajobs.errors import InvalidInput
from sagajobs.saga import step
from sagajobs.saga.records import SagaRecord

_ADOPTION_LOCK = 0xAD09


class AppointmentCreationSaga(BookingSaga):
    """Book an appointment here and at Cal.com: both, or neither."""

    name = "appointment_creation"
    Input = BookingRequest

    input: BookingRequest

    def useful_until(self) -> datetime:
        """Nobody is helped by a booking that is confirmed after its own start."""
        return self.input.start

    # --- the steps ---

    @step(irreversible=True, needed=True)  # a customer stays known, booking or not
    def create_customer(self, db: Session) -> dict[str, Any]:
        """Find the customer by e-mail address or create one; two at once get the same row."""
        customer_id, created = find_or_create_customer(db, self.input.customer)
        return {"customer_id": customer_id, "created": created}

    @step(needed=True)
    def create_appointment(self, db: Session) -> dict[str, Any]:
        """Insert the appointment as `pending`; its slot is defended by the database, and it is ours until the end."""
        appointment_id = insert_appointment(db, self.input, self.results["create_customer"]["customer_id"], self.id)
        self.lock(db, appointment_lock(appointment_id))
        return {"appointment_id": appointment_id}

    @create_appointment.compensation
    def delete_appointment(self, db: Session) -> dict[str, Any]:
        """Take the appointment back: a soft delete, with an audit row."""
        return DatabaseCompensationService(self.services.actor).delete_appointment(
            db, self.results["create_appointment"]["appointment_id"], saga_id=self.id, reason="the saga was undone"
        )

    @step(
        external=True,
        needed=True,
        timeout=20,
        retry=CALCOM_RETRY,
        adopt=lambda saga: saga.input.calcom_booking_uid is not None,
        hold=away,
        turn=lambda saga: turn_to_book(saga.services, saga.input),
    )
    def book_calcom(self, key: str) -> dict[str, Any]:
        """Book at Cal.com, with our key in the booking's metadata."""
        wanted = self.input
        if wanted.calcom_booking_uid is not None:
            # It began as unknown, and the probe has not found what the request brought along.
            raise NothingToAdopt(f"Cal.com has no booking {wanted.calcom_booking_uid}")
        return make_booking(self.services, key, wanted, wanted.customer)

    @book_calcom.probe(looks=3, over=4.0)
    def find_booking(self, key: str) -> dict[str, Any] | None:
        """Look for the booking under our key, or for the one that the request brought along."""
        if self.input.calcom_booking_uid is not None:
            return find_brought(self.services, key, self.input, self.input.calcom_booking_uid)
        return find_made(self.services, key, self.input, self.input.customer)

    @book_calcom.by_hand
    def adopt_booking(self, uid: str) -> dict[str, Any]:
        """Take over a booking that an operator has made or found, if it is the one that was asked for."""
        found = find_brought(self.services, f"{self.id}/book_calcom", self.input, uid)
        if found is None:
            raise NothingToAdopt(f"Cal.com has no booking {uid}")
        return found

    @book_calcom.record
    def record_booking(self, db: Session, booking: dict[str, Any]) -> None:
        """Note on the appointment where it is booked, in the commit that records the booking."""
        made = self.results.get("create_appointment")
        if made is None:
            return  # a booking brought along, found while undoing a saga that never came to its appointment
        note_booking(db, made["appointment_id"], booking)
        self.audit(db, "appointment.booked", made["appointment_id"], uid=booking["uid"], adopted=booking["adopted"])

    @book_calcom.compensation(retry=CALCOM_UNDO_RETRY, timeout=60)
    def cancel_booking(self, booking: dict[str, Any]) -> dict[str, Any]:
        """Cancel at Cal.com, made or brought along, and see that it is cancelled."""
        return CalcomCompensationService(self.services.calcom).cancel_calcom_booking(booking["uid"], CANCEL_REASON)

    @cancel_booking.record
    def record_cancellation(self, db: Session, receipt: dict[str, Any]) -> None:
        """Note on the appointment that its booking is gone."""
        made = self.results.get("create_appointment")
        if made is None:
            return
        note_cancellation(db, made["appointment_id"])
        self.audit(db, "appointment.booking_cancelled", made["appointment_id"], **evidence_of(receipt))

    @step(optional=True)
    def assign_staff(self, db: Session) -> dict[str, Any]:
        """Assign the staff member whom Cal.com chose as host; that nobody matches is no failure."""
        booking, made = self.results["book_calcom"], self.results["create_appointment"]
        return assign_host(db, made["appointment_id"], booking["host"])

    # --- before and after ---

    def check(self, db: Session) -> None:
        """Refuse what cannot be booked: a past start, an unknown event type or staff member, a booking in use."""
        wanted = self.input
        problems = []
        if wanted.start <= datetime.now(UTC):
            problems.append("start: lies in the past")
        problems += slot_problems(self.services, wanted)
        if wanted.staff_id is not None and db.scalar(select(staff.c.id).where(staff.c.id == wanted.staff_id)) is None:
            problems.append(f"staff_id: there is no staff member {wanted.staff_id}")
        if wanted.calcom_booking_uid is not None and self._is_taken(db, wanted.calcom_booking_uid):
            problems.append("calcom_booking_uid: belongs to another appointment")
        if problems:
            raise InvalidInput(f"{self.name}: {'; '.join(problems)}", problems)

    def _is_taken(self, db: Session, uid: str) -> bool:
        """Tell whether a Cal.com booking is an appointment's already, or about to become one.

        Undoing a saga cancels the booking that it adopted, so no two may adopt one. The lock makes a second start
        wait until the first one's saga can be seen.
        """
        db.execute(select(func.pg_advisory_xact_lock(_ADOPTION_LOCK, func.hashtext(uid))))
        return bool(
            db.scalar(
                text(
                    "SELECT EXISTS (SELECT FROM appointments WHERE calcom_v2_booking_id = :uid) OR EXISTS ("
                    "SELECT FROM sagas WHERE input->>'calcom_booking_uid' = :uid AND state <> 'compensated')"
                ),
                {"uid": uid},
            )
        )

    def result(self, db: Session) -> Appointment:
        """Return the appointment as it stands."""
        return Appointment.load(db, self.results["create_appointment"]["appointment_id"])

    def note_review(self, db: Session) -> None:
        """Have the appointment show that a person must look at it, if it has been made."""
        made = self.results.get("create_appointment")
        if made is not None:
            mark_for_review(db, made["appointment_id"])

    def note_settled(self, db: Session, step: str | None) -> None:  # noqa: ARG002 - whatever it was about
        """Have the appointment show that nobody is asked about it any more, if it has been made."""
        made = self.results.get("create_appointment")
        if made is not None:
            mark_settled(db, made["appointment_id"], self.id)

    @classmethod
    def public_status(cls, record: SagaRecord) -> str:
        """Return the customer's word for where it stands (SPEC 6)."""
        return standing_of(record, [record.steps["book_calcom"]])
