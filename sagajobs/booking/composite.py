"""`CompositeBookingSaga`: several appointments of one customer are booked together, all of them or none (SPEC 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from sagajobs.booking.appointment import Appointment
from sagajobs.booking.bookingsaga import BookingSaga, evidence_of, standing_of
from sagajobs.booking.compensation import CalcomCompensationService, DatabaseCompensationService
from sagajobs.booking.errors import NothingToAdopt
from sagajobs.booking.local import (
    appointment_lock,
    assign_match,
    find_or_create_customer,
    insert_composite,
    mark_for_review,
    mark_settled,
    match_hosts,
    note_booking,
    note_cancellation,
    take_turns_for_staff,
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
from sagajobs.booking.request import Customer, Slot
from sagajobs.booking.schema import appointments, composite_bookings, staff
from sagajobs.errors import InvalidInput
from sagajobs.saga import SagaHandle, step
from sagajobs.saga.definition import PATIENCE
from sagajobs.saga.records import SagaRecord

FEWEST, MOST = 2, 10
"""Segments of a composite booking: one is an `AppointmentCreationSaga`, and ten are as many calls at once."""


class CompositeRequest(BaseModel):
    """Several appointments for one customer.

    Attributes:
        customer: who they are for.
        segments: what to book, in the customer's order.
    """

    model_config = ConfigDict(hide_input_in_errors=True, frozen=True, extra="forbid")

    customer: Customer
    segments: tuple[Slot, ...] = Field(min_length=FEWEST, max_length=MOST)


@dataclass(frozen=True, slots=True)
class CompositeBooking:
    """A composite booking as it stands in the database; its appointments in the order of the segments."""

    id: int
    customer_id: int
    appointments: tuple[Appointment, ...]

    @classmethod
    def load(cls, db: Session, composite_id: int) -> CompositeBooking:
        """Return a composite booking by its id; it must exist."""
        customer_id = db.execute(
            select(composite_bookings.c.customer_id).where(composite_bookings.c.id == composite_id)
        ).scalar_one()
        parts = db.scalars(
            select(appointments.c.id)
            .where(appointments.c.composite_id == composite_id)
            .order_by(appointments.c.segment)
        )
        return cls(composite_id, customer_id, tuple(Appointment.load(db, part) for part in parts.all()))


class CompositeBookingSaga(BookingSaga):
    """Book several appointments here and at Cal.com: all of them, or none."""

    name = "composite_booking"
    Input = CompositeRequest

    input: CompositeRequest

    def useful_until(self) -> datetime:
        """Nobody is helped by bookings of which one is confirmed after its own start."""
        return min(segment.start for segment in self.input.segments)

    # --- the steps ---

    @step(irreversible=True, needed=True)  # a customer stays known, booking or not
    def create_customer(self, db: Session) -> dict[str, Any]:
        """Find the customer by e-mail address or create one."""
        customer_id, created = find_or_create_customer(db, self.input.customer)
        return {"customer_id": customer_id, "created": created}

    @step(needed=True)
    def create_appointments(self, db: Session) -> dict[str, Any]:
        """Insert all appointments as `pending`, in one transaction; each is ours until the end."""
        customer_id = self.results["create_customer"]["customer_id"]
        composite_id, made = insert_composite(db, self.input.segments, customer_id, self.id)
        for appointment_id in made:
            self.lock(db, appointment_lock(appointment_id))
        return {"composite_id": composite_id, "appointment_ids": made}

    @create_appointments.compensation
    def delete_appointments(self, db: Session) -> dict[str, Any]:
        """Take all appointments back: soft deletes, with audit rows."""
        return DatabaseCompensationService(self.services.actor).delete_composite_appointment(
            db, self.results["create_appointments"]["composite_id"], saga_id=self.id, reason="the saga was undone"
        )

    @step(
        external=True,
        needed=True,
        timeout=20,
        retry=CALCOM_RETRY,
        hold=away,
        turn=lambda saga, number: turn_to_book(saga.services, saga.input.segments[number]),
        each=lambda saga: len(saga.input.segments),
    )
    def book_segment(self, key: str, number: int) -> dict[str, Any]:
        """Book one segment at Cal.com, beside the others, with our key in the booking's metadata."""
        return make_booking(self.services, key, self.input.segments[number], self.input.customer)

    @book_segment.probe(looks=3, over=4.0)
    def find_segment(self, key: str, number: int) -> dict[str, Any] | None:
        """Look for the segment's booking under our key."""
        return find_made(self.services, key, self.input.segments[number], self.input.customer)

    @book_segment.by_hand
    def adopt_segment(self, uid: str, number: int) -> dict[str, Any]:
        """Take over a booking that an operator has made or found, if it is the one that was asked for."""
        key = f"{self.id}/book_segment[{number}]"
        found = find_brought(self.services, key, self.input.segments[number], uid)
        if found is None:
            raise NothingToAdopt(f"Cal.com has no booking {uid}")
        return found

    @book_segment.record
    def record_segment(self, db: Session, booking: dict[str, Any], number: int) -> None:
        """Note on the segment's appointment where it is booked."""
        appointment_id = self._appointment(number)
        note_booking(db, appointment_id, booking)
        self.audit(db, "appointment.booked", appointment_id, uid=booking["uid"], adopted=booking["adopted"])

    @book_segment.compensation(retry=CALCOM_UNDO_RETRY, timeout=60)
    def cancel_segment(self, booking: dict[str, Any], _number: int) -> dict[str, Any]:
        """Cancel one segment at Cal.com, and see that it is cancelled."""
        return CalcomCompensationService(self.services.calcom).cancel_calcom_booking(booking["uid"], CANCEL_REASON)

    @cancel_segment.record
    def record_cancellation(self, db: Session, receipt: dict[str, Any], number: int) -> None:
        """Note on the segment's appointment that its booking is gone."""
        appointment_id = self._appointment(number)
        note_cancellation(db, appointment_id)
        self.audit(db, "appointment.booking_cancelled", appointment_id, **evidence_of(receipt))

    @step(optional=True)
    def assign_staff(self, db: Session) -> list[dict[str, Any]]:
        """Assign the staff members whom Cal.com chose as hosts; that nobody matches is no failure."""
        hosts = [self.results["book_segment"][number]["host"] for number in range(len(self.input.segments))]
        matches = match_hosts(db, hosts)
        for staff_id in sorted({match["staff_id"] for match in matches} - {None}):
            take_turns_for_staff(db, staff_id)
        return [assign_match(db, self._appointment(number), match) for number, match in enumerate(matches)]

    # --- before and after ---

    def check(self, db: Session) -> None:
        """Refuse what cannot be booked: a past start, an unknown event type or staff member, two segments at once."""
        problems = []
        for number, segment in enumerate(self.input.segments):
            where = f"segments.{number}"
            if segment.start <= datetime.now(UTC):
                problems.append(f"{where}.start: lies in the past")
            problems += [f"{where}.{problem}" for problem in slot_problems(self.services, segment)]
        problems += self._unknown_staff(db)
        for (first, one), (second, other) in combinations(enumerate(self.input.segments), 2):
            overlap = one.start < other.end and other.start < one.end
            if overlap and one.staff_id is not None and one.staff_id == other.staff_id:
                problems.append(
                    f"segments.{second}: staff member {one.staff_id} is busy with segment {first} at that time"
                )
        if problems:
            raise InvalidInput(f"{self.name}: {'; '.join(problems)}", problems)

    def _unknown_staff(self, db: Session) -> list[str]:
        wanted = {segment.staff_id for segment in self.input.segments if segment.staff_id is not None}
        known = set(db.scalars(select(staff.c.id).where(staff.c.id.in_(wanted)))) if wanted else set()
        return [
            f"segments.{number}.staff_id: there is no staff member {segment.staff_id}"
            for number, segment in enumerate(self.input.segments)
            if segment.staff_id in wanted - known
        ]

    def result(self, db: Session) -> CompositeBooking:
        """Return the composite booking as it stands."""
        return CompositeBooking.load(db, self.results["create_appointments"]["composite_id"])

    def note_review(self, db: Session) -> None:
        """Have all appointments show that a person must look at them, if they have been made."""
        made = self.results.get("create_appointments")
        for appointment_id in made["appointment_ids"] if made is not None else ():
            mark_for_review(db, appointment_id)

    def note_settled(self, db: Session, step: str | None) -> None:
        """Have the appointments show that nobody is asked any more; those that were not in question are in step."""
        booked = self.results.get("book_segment", {})
        made = self.results.get("create_appointments")
        for number, appointment_id in enumerate(made["appointment_ids"] if made is not None else ()):
            in_step = number in booked and step != f"book_segment[{number}]"
            mark_settled(db, appointment_id, self.id, in_step=in_step)

    @classmethod
    def public_status(cls, record: SagaRecord) -> str:
        """Return the customer's word for where all of it stands (SPEC 6)."""
        segments = [glance for name, glance in record.steps.items() if name.startswith("book_segment[")]
        return standing_of(record, segments)

    def _appointment(self, number: int) -> int:
        appointment_id: int = self.results["create_appointments"]["appointment_ids"][number]
        return appointment_id

    # --- what a caller uses ---

    @classmethod
    def enqueue(  # type: ignore[override]  # the arguments that SPEC 10 names
        cls,
        customer: Customer | Mapping[str, Any],
        segments: Sequence[Slot | Mapping[str, Any]],
        idempotency_key: str | None = None,
        session: Session | None = None,
    ) -> SagaHandle:
        """Record a composite booking and let Celery carry it out.

        Args:
            customer: a `Customer`, or a mapping that makes one.
            segments: 2 to 10 times a `Slot`, or a mapping that makes one.
            idempotency_key: as for `Saga.enqueue`.
            session: likewise.

        Returns:
            A handle; its `result()` is a `CompositeBooking`.

        Raises:
            InvalidInput: it makes no sense; nothing was written.
            IdempotencyConflict: the key was used with another request.
        """
        return super().enqueue(composite_request(customer, segments), idempotency_key, session)

    @classmethod
    def run(  # type: ignore[override]  # the arguments that SPEC 10 names
        cls,
        customer: Customer | Mapping[str, Any],
        segments: Sequence[Slot | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        patience: float = PATIENCE,
    ) -> CompositeBooking:
        """Carry a composite booking out in this process, the calls to Cal.com side by side; see `Saga.run`.

        Args:
            customer: a `Customer`, or a mapping that makes one.
            segments: 2 to 10 times a `Slot`, or a mapping that makes one.
            idempotency_key: as for `Saga.run`.
            patience: likewise, seconds.

        Raises:
            InvalidInput: it makes no sense; nothing was written.
            SagaException: a segment failed, and all were undone.
            SagaCompensationException: it failed and a person must look at it.
            SagaNotFinished: patience ran out; the workers carry it on.
        """
        made: CompositeBooking = super().run(
            composite_request(customer, segments), idempotency_key=idempotency_key, patience=patience
        )
        return made


def composite_request(
    customer: Customer | Mapping[str, Any], segments: Sequence[Slot | Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the mapping that makes a `CompositeRequest` of what a caller gave."""
    parts = (customer, *segments)
    plain = [part.model_dump(warnings=False) if isinstance(part, BaseModel) else part for part in parts]
    return {"customer": plain[0], "segments": plain[1:]}
