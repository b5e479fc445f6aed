"""`AppointmentCreationSaga`: an appointment is booked here and at Cal.com, or nowhere (SPEC 4)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sagajobs.booking import staffing
from sagajobs.booking.appointment import Appointment
from sagajobs.booking.compensation import (
    LONGEST_TRAIL,
    CalcomCompensationService,
    DatabaseCompensationService,
    audit,
)
from sagajobs.booking.errors import AlreadyBooked, NothingToAdopt, SlotNotFree
from sagajobs.booking.request import BookingRequest
from sagajobs.booking.schema import appointments, customers, staff
from sagajobs.booking.services import AWAY_FOR, BookingServices
from sagajobs.calcom.errors import BadCredentials, BookingNotFound, EventTypeNotFound
from sagajobs.calcom.models import Booking, BookingStatus, NewBooking
from sagajobs.errors import Deferred, EffectGone, InvalidInput
from sagajobs.saga import RetryPolicy, Saga, SagaState, StepState, step
from sagajobs.saga.records import SagaRecord

METADATA_KEY = "sagajobs_key"
"""Under this key a booking's metadata carries ours: Cal.com takes no idempotency key, and keeps metadata for good."""

CALCOM_RETRY = RetryPolicy(max_attempts=5, base=0.5, max_delay=60.0)
"""Five calls over some ten seconds: somebody is waiting for the confirmation."""

CALCOM_UNDO_RETRY = RetryPolicy(max_attempts=10, base=1.0, max_delay=600.0, transient=(BadCredentials,))
"""Ten tries over some twenty minutes; a wrong API key is a mistake of operation, so it is waited out too."""

CANCEL_REASON = "The appointment could not be completed."

STANDING = (BookingStatus.ACCEPTED, BookingStatus.PENDING)
"""Statuses of a booking that is there."""

_ADOPTION_LOCK = 0xAD09


class AppointmentCreationSaga(Saga):
    """Book an appointment here and at Cal.com: both, or neither."""

    name = "appointment_creation"
    Input = BookingRequest

    services: ClassVar[BookingServices]
    input: BookingRequest

    def useful_until(self) -> datetime:
        """Nobody is helped by a booking that is confirmed after its own start."""
        return self.input.start

    # --- the steps ---

    @step(irreversible=True)  # a customer stays known, booking or not
    def create_customer(self, db: Session) -> dict[str, Any]:
        """Find the customer by e-mail address or create one; two at once get the same row (the seed's RC5)."""
        who = self.input.customer
        created = db.scalar(
            insert(customers)
            .values(name=who.name, email=who.email, phone=who.phone, time_zone=who.time_zone)
            .on_conflict_do_nothing(index_elements=[func.lower(customers.c.email)])
            .returning(customers.c.id)
        )
        if created is not None:
            return {"customer_id": created, "created": True}
        # Lower case is the database's own, as in its index: Python's differs outside ASCII.
        known = db.scalars(select(customers.c.id).where(func.lower(customers.c.email) == func.lower(who.email))).one()
        return {"customer_id": known, "created": False}

    @step
    def create_appointment(self, db: Session) -> dict[str, Any]:
        """Insert the appointment as `pending`; the database defends its slot (the seed's RC3)."""
        wanted = self.input
        staffing.queue_for(db, wanted.staff_id)
        try:
            appointment_id = db.scalar(
                insert(appointments)
                .values(
                    customer_id=self.results["create_customer"]["customer_id"],
                    staff_id=wanted.staff_id,
                    event_type_id=wanted.event_type_id,
                    starts_at=wanted.start,
                    ends_at=wanted.end,
                    notes=wanted.notes,
                    saga_id=self.id,
                )
                .returning(appointments.c.id)
            )
        except IntegrityError as error:
            if staffing.is_busy(error):
                raise SlotNotFree(f"staff member {wanted.staff_id} is not free at that time") from None
            raise
        return {"appointment_id": appointment_id}

    @create_appointment.compensation
    def delete_appointment(self, db: Session) -> dict[str, Any]:
        """Take the appointment back: a soft delete, with an audit row."""
        return DatabaseCompensationService(self.services.actor).delete_appointment(
            db, self.results["create_appointment"]["appointment_id"], saga_id=self.id, reason="the saga was undone"
        )

    @step(
        external=True,
        timeout=20,
        retry=CALCOM_RETRY,
        adopt=lambda saga: saga.input.calcom_booking_uid is not None,
    )
    def book_calcom(self, key: str) -> dict[str, Any]:
        """Book at Cal.com, with our key in the booking's metadata."""
        wanted = self.input
        if wanted.calcom_booking_uid is not None:
            # It began as unknown, and the probe has not found what the request brought along.
            raise NothingToAdopt(f"Cal.com has no booking {wanted.calcom_booking_uid}")
        event_type = self.services.event_types.get(wanted.event_type_id)
        if event_type is None:
            # Nothing was tried: Cal.com cannot even say now which lengths the event type has.
            raise Deferred("Cal.com does not answer", retry_after=AWAY_FOR)
        booking = self.services.calcom.create_booking(
            NewBooking(
                event_type_id=wanted.event_type_id,
                start=wanted.start,
                attendee_name=wanted.customer.name,
                attendee_email=wanted.customer.email,
                attendee_phone=wanted.customer.phone,
                attendee_time_zone=wanted.customer.time_zone,
                # Refused with a 400 where the event type has one length only.
                length_in_minutes=wanted.duration_minutes if len(event_type.lengths) > 1 else None,
                notes=wanted.notes,
                metadata={METADATA_KEY: key},
            )
        )
        if booking.metadata.get(METADATA_KEY) != key:
            # For an event type that is confirmed first, Cal.com answers with the same attendee's earlier booking of
            # the same time: it is not ours, and undoing this saga must not cancel it.
            raise AlreadyBooked(f"Cal.com has booking {booking.uid} of this customer for this time already")
        return _essence(booking, adopted=False)

    @book_calcom.probe(looks=3, over=4.0)
    def find_booking(self, key: str) -> dict[str, Any] | None:
        """Look for the booking under our key, or for the one that the request brought along."""
        if self.input.calcom_booking_uid is not None:
            return self._find_adopted(self.input.calcom_booking_uid, key)
        mine = [
            booking
            for booking in self.services.calcom.find_bookings(
                event_type_id=self.input.event_type_id,
                attendee_email=self.input.customer.email,
                after_start=self.input.start,
                before_end=self.input.end,
            )
            if booking.metadata.get(METADATA_KEY) == key
        ]
        for booking in mine:
            standing = self._follow(booking)
            if standing.status in STANDING:
                return _essence(standing, adopted=False)
        if mine:
            raise EffectGone("the booking was made and has been cancelled at Cal.com since")
        return None

    def _follow(self, booking: Booking) -> Booking:
        """Return the booking that a moved one has become: every move makes another uid."""
        for _ in range(LONGEST_TRAIL):
            if booking.rescheduled_to_uid is None:
                break
            booking = self.services.calcom.get_booking(booking.rescheduled_to_uid)
        return booking

    def _find_adopted(self, uid: str, key: str) -> dict[str, Any] | None:
        try:
            booking = self.services.calcom.get_booking(uid)
        except BookingNotFound:
            return None
        if booking.status not in STANDING:
            raise EffectGone(f"booking {uid} is {booking.status} at Cal.com")
        if booking.event_type_id != self.input.event_type_id or booking.start != self.input.start:
            # Not what was asked for: not ours to adopt, and so not ours to cancel.
            raise EffectGone(f"booking {uid} is of another event type or time than the request")
        if booking.metadata.get(METADATA_KEY, key) != key:
            # Another saga's, perhaps not on record yet: undoing this one would cancel it.
            raise EffectGone(f"booking {uid} was made for another appointment")
        return _essence(booking, adopted=True)

    @book_calcom.record
    def record_booking(self, db: Session, booking: dict[str, Any]) -> None:
        """Note on the appointment where it is booked, in the commit that records the booking."""
        made = self.results.get("create_appointment")
        if made is None:
            return  # a booking brought along, found while undoing a saga that never came to its appointment
        accepted = booking["status"] == BookingStatus.ACCEPTED
        db.execute(
            update(appointments)
            .where(appointments.c.id == made["appointment_id"])
            .values(
                calcom_v2_booking_id=booking["uid"],
                calcom_sync_status="synced",
                status="scheduled" if accepted else "pending",
                updated_at=func.saga_now(),
            )
        )
        self._audit(db, "appointment.booked", made["appointment_id"], uid=booking["uid"], adopted=booking["adopted"])

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
        db.execute(
            update(appointments)
            .where(appointments.c.id == made["appointment_id"])
            .values(calcom_sync_status="cancelled", updated_at=func.saga_now())
        )
        self._audit(db, "appointment.booking_cancelled", made["appointment_id"], uids=receipt["uids"])

    @step(optional=True)
    def assign_staff(self, db: Session) -> dict[str, Any]:
        """Assign the staff member whom Cal.com chose as host; that nobody matches is no failure."""
        host = self.results["book_calcom"]["host"]
        if host is None:
            return {"staff_id": None, "reason": "Cal.com named no host"}
        staff_id = staffing.of_host(db, host)
        if staff_id is None:
            return {"staff_id": None, "reason": "no staff member matches Cal.com's host"}
        appointment_id = self.results["create_appointment"]["appointment_id"]
        db.execute(
            update(appointments)
            .where(appointments.c.id == appointment_id, appointments.c.staff_id.is_distinct_from(staff_id))
            .values(staff_id=staff_id, updated_at=func.saga_now())
        )
        return {"staff_id": staff_id}

    # --- before and after ---

    def check(self, db: Session) -> None:
        """Refuse what cannot be booked: a past start, an unknown event type or staff member, a booking in use."""
        wanted = self.input
        problems = []
        if wanted.start <= datetime.now(UTC):
            problems.append("start: lies in the past")
        problems += self._event_type_problems()
        if wanted.staff_id is not None and db.scalar(select(staff.c.id).where(staff.c.id == wanted.staff_id)) is None:
            problems.append(f"staff_id: there is no staff member {wanted.staff_id}")
        if wanted.calcom_booking_uid is not None and self._is_taken(db, wanted.calcom_booking_uid):
            problems.append("calcom_booking_uid: belongs to another appointment")
        if problems:
            raise InvalidInput(f"{self.name}: {'; '.join(problems)}", problems)

    def _event_type_problems(self) -> list[str]:
        number, minutes = self.input.event_type_id, self.input.duration_minutes
        try:
            event_type = self.services.event_types.get(number)
        except EventTypeNotFound:
            return [f"event_type_id: Cal.com has no event type {number}"]
        if event_type is None:
            return []
        if event_type.recurring or event_type.seated:
            return [f"event_type_id: event type {number} is recurring or seated, which cannot be booked here"]
        if minutes not in event_type.lengths:
            allowed = ", ".join(map(str, event_type.lengths))
            return [f"duration_minutes: event type {number} takes {allowed} minutes"]
        return []

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

    @classmethod
    def public_status(cls, record: SagaRecord) -> str:
        """Return the customer's word for where it stands (SPEC 6)."""
        words = {
            SagaState.COMPENSATING: "being cancelled",
            SagaState.COMPENSATED: "cancelled",
            SagaState.MANUAL_REVIEW_REQUIRED: "needs us",
        }
        if record.state in words:
            return words[record.state]
        booking = record.steps["book_calcom"]
        if booking.state is StepState.DONE:
            return "confirmed" if booking.output["status"] == BookingStatus.ACCEPTED else "confirming"
        return "confirming" if booking.state is not StepState.WAITING or booking.attempts else "held"

    def _audit(self, db: Session, action: str, appointment_id: int, **detail: Any) -> None:
        audit(
            db,
            actor=self.services.actor,
            action=action,
            appointment_id=appointment_id,
            saga_id=self.id,
            detail=detail,
        )


def _essence(booking: Booking, *, adopted: bool) -> dict[str, Any]:
    """Return what later steps need of a booking; it stays in the database."""
    host = booking.hosts[0] if booking.hosts else None
    return {
        "uid": booking.uid,
        "status": booking.status,
        "adopted": adopted,
        "host": None if host is None else {"id": host.id, "email": host.email},
    }
