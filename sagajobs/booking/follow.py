"""`AppointmentFollowSaga`: what a customer or a host does at Cal.com reaches our appointment.

A webhook, or a difference that reconciling finds, is a hint and nothing more: the saga asks Cal.com, and does what the
answer says. So a hint may come doubled, late, out of order or on the heels of our own change: nothing is found to do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PositiveInt, StringConstraints
from sqlalchemy import Row, and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sagajobs.booking.alignment import OVER, Sight, Standing, aligned, differences, look_up, shows
from sagajobs.booking.bookingsaga import BookingSaga
from sagajobs.booking.compensation import DatabaseCompensationService
from sagajobs.booking.errors import SlotNotFree
from sagajobs.booking.local import (
    appointment_lock,
    audit,
    mark_for_retry,
    mark_for_review,
    mark_settled,
    slot_is_taken,
    staff_of_hosts,
)
from sagajobs.booking.outside import away
from sagajobs.booking.request import BookingUid
from sagajobs.booking.schema import SLOT_FREE, appointments
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.errors import BookingNotFound
from sagajobs.calcom.operations import GET_BOOKING
from sagajobs.calcom.priority import Priority
from sagajobs.calcom.webhooks import Trigger
from sagajobs.errors import TransientError
from sagajobs.saga import RetryPolicy, SagaState, step
from sagajobs.saga.records import SagaRecord

ACTOR = "cal.com"
"""Whom the audit trail names: it was the customer or the host, and only Cal.com knows which."""

SEE_RETRY = RetryPolicy(max_attempts=7, base=1.0, max_delay=8.0)
"""Seven looks over some thirty seconds: a cancel is told before it is done, and replicas lag by some seconds."""

READ_RETRY = RetryPolicy(max_attempts=6, base=1.0, max_delay=10.0)
"""Six tries over some twenty-five seconds; what fails for longer opens the circuit, and is then waited out."""

CONFLICT_RETRY = RetryPolicy(max_attempts=4, base=10.0)
"""Four more tries over two and a half minutes: where two appointments changed places, the other one is on its way."""


class Hint(BaseModel):
    """Why an appointment is to be compared with Cal.com.

    Attributes:
        appointment_id: which one.
        booking_uid: the booking that the hint is about; not always the one that the appointment names.
        trigger: of the webhook, None if there was none.
        seen: when it was, or what was seen; tells one hint from another.
    """

    model_config = ConfigDict(hide_input_in_errors=True, frozen=True, extra="forbid")

    appointment_id: PositiveInt
    booking_uid: BookingUid
    trigger: Trigger | None = None
    seen: Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f]*$")]


class AppointmentFollowSaga(BookingSaga):
    """Compare an appointment with its booking at Cal.com, and follow it."""

    name = "appointment_follow"
    Input = Hint
    lock_wait = 300.0
    """Seconds: nobody waits for it, so it can wait for whoever works on the appointment."""
    lets_go = True
    """A customer's own change must not be refused because a hint waits for Cal.com, or for a replica that lags."""

    input: Hint

    def locks(self) -> tuple[str]:
        """Work on the appointment when nobody else does: what our own sagas do looks like news in the middle."""
        return (appointment_lock(self.input.appointment_id),)

    # --- the steps ---

    @step(irreversible=True, needed=True)  # it only reads
    def find_appointment(self, db: Session) -> dict[str, Any] | None:
        """Return which booking the appointment has, and when; None if it is over, or has none: nothing can follow."""
        row = self._row(db)
        if row is None or row.status in OVER or row.calcom_v2_booking_id is None:
            return None
        return {"uid": row.calcom_v2_booking_id, "start": row.starts_at.isoformat()}

    @step(
        external=True,
        idempotent=True,
        optional=True,
        timeout=60,
        retry=SEE_RETRY,
        when=lambda saga: saga.input.trigger is not None and saga.found is not None,
        hold=away,
        turn=lambda saga: saga.turn(),
    )
    def see_change(self, key: str) -> dict[str, Any]:  # noqa: ARG002 - a look leaves nothing to be found by a key
        """Look at the booking until it shows what the webhook said; after half a minute it is taken as it reads."""
        sight = self._look()
        if not shows(self.input.trigger, self.input.booking_uid, sight) and not self._outdated(sight):
            raise TransientError(f"booking {self.input.booking_uid} does not read {self.input.trigger} yet")
        return sight.model_dump(mode="json")

    @step(
        external=True,
        idempotent=True,
        pivot=True,
        timeout=60,
        retry=READ_RETRY,
        when=lambda saga: "see_change" not in saga.results and saga.found is not None,
        hold=away,
        turn=lambda saga: saga.turn(),
    )
    def read_booking(self, key: str) -> dict[str, Any]:  # noqa: ARG002 - likewise
        """Look at the booking once more, or for the first time, and take it as it reads."""
        return self._look().model_dump(mode="json")

    @step(when=lambda saga: saga.found is not None)
    def follow(self, db: Session) -> dict[str, Any]:
        """Bring the appointment to where its booking is."""
        row = self._row(db, lock=True)
        sight = self.sight
        if row is None:
            return {"changed": False}
        old = Standing(*(getattr(row, name) for name in Standing._fields))
        new = aligned(old, sight)
        changes: dict[str, Any] = differences(old, new)
        staff_id = self._staff(db, sight)
        if new.status not in OVER and staff_id not in (None, row.staff_id):
            changes["staff_id"] = staff_id
        changes = self._change(db, row, changes)
        if not changes:
            return {"changed": False}
        detail = {"trigger": self.input.trigger, "uid": sight.uid, "status_before": row.status, "status": new.status}
        self._audit(db, "appointment.followed", detail | {"changed": sorted(changes)})
        return {"changed": True, "status": new.status}

    @follow.degradation(retry=CONFLICT_RETRY)
    def mark_conflict(self, db: Session, error: dict[str, Any]) -> None:
        """Say on the appointment that it is not where its booking is, and on the audit trail why."""
        if mark_for_retry(db, self.input.appointment_id, self.id):
            self._audit(db, "appointment.not_followed", {"uid": self.sight.uid, "why": error["message"]})

    @step(
        external=True,
        idempotent=True,
        optional=True,
        timeout=10,
        when=lambda saga: saga.changed,
    )
    def invalidate_cache(self, key: str) -> dict[str, Any]:  # noqa: ARG002 - forgetting twice is forgetting
        """Have web applications read the appointment anew."""
        services = DatabaseCompensationService(self.services.actor)
        return services.invalidate_cache(self.services.cache, self.input.appointment_id)

    # --- what they share ---

    @property
    def found(self) -> dict[str, Any] | None:
        """What the first step found."""
        found: dict[str, Any] | None = self.results.get("find_appointment")
        return found

    @property
    def changed(self) -> bool:
        """Whether the appointment was changed; by hand, if an operator says that it was done."""
        done = self.results.get("follow")
        return done is not None and bool(done.get("changed", True))

    @property
    def sight(self) -> Sight:
        """The booking as it was seen last."""
        return Sight.model_validate(self.results.get("see_change") or self.results["read_booking"])

    def urgent_at(self) -> datetime | None:
        """Return the start of the appointment, before or after a move: somebody may count on the nearer one.

        It is no deadline: a move is followed also after the hour that it was moved away from.
        """
        known = [self.results.get(name) for name in ("find_appointment", "see_change", "read_booking")]
        return min((datetime.fromisoformat(one["start"]) for one in known if one is not None), default=None)

    def result(self, db: Session) -> dict[str, Any]:  # noqa: ARG002 - all is known
        """Return whether the appointment was changed."""
        return {"changed": self.changed}

    @classmethod
    def public_status(cls, record: SagaRecord) -> str:
        """Return "needs us" while a person is asked; else the state, as no customer has asked for this saga."""
        return "needs us" if record.state is SagaState.MANUAL_REVIEW_REQUIRED else super().public_status(record)

    def note_review(self, db: Session) -> None:
        """Have the appointment show that a person must look at it."""
        if self.found is not None:
            mark_for_review(db, self.input.appointment_id)

    def note_settled(self, db: Session, step: str | None) -> None:  # noqa: ARG002 - whatever it was about
        """Have the appointment show that nobody is asked about it any more."""
        mark_settled(db, self.input.appointment_id, self.id)

    def _row(self, db: Session, *, lock: bool = False) -> Row[Any] | None:
        columns = [appointments.c[name] for name in (*Standing._fields, "staff_id")]
        query = select(*columns).where(
            appointments.c.id == self.input.appointment_id, appointments.c.deleted_at.is_(None)
        )
        return db.execute(query.with_for_update() if lock else query).first()

    def turn(self) -> float:
        """Return the seconds until the quota may have something left for a look; 0 to go ahead."""
        return self._client.turn(GET_BOOKING)

    @property
    def _client(self) -> CalcomClient:
        start = datetime.fromisoformat(self.results["find_appointment"]["start"])
        return self.services.calcom.at(Priority.of(start, datetime.now(UTC)))

    def _look(self, uid: str | None = None) -> Sight:
        try:
            return look_up(self._client, uid or self.results["find_appointment"]["uid"])
        except BookingNotFound as error:
            raise TransientError(f"not to be seen (yet): {error}") from None

    def _outdated(self, sight: Sight) -> bool:
        """Tell whether the hint is about a booking that became this one before we had this one."""
        uid = self.input.booking_uid
        return uid not in sight.uids and sight.uid in self._look(uid).uids

    def _staff(self, db: Session, sight: Sight) -> int | None:
        """Return the host's staff member, None if he is none of ours; a booking can get another host at any time."""
        if sight.host is None:
            return None
        return staff_of_hosts(db, [sight.host.model_dump()]).get(sight.host.id)

    def _change(self, db: Session, row: Row[Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Write the changes, and return those that were made.

        A staff member who is busy, at a time that did not change, is not followed, as when he was first assigned.

        Raises:
            SlotNotFree: the new time is another appointment's of that staff member.
        """
        if not changes:
            return changes
        staff_id = changes.get("staff_id", row.staff_id)
        try:
            self._write(db, changes)
        except IntegrityError as error:
            if not slot_is_taken(error):
                raise
            if "starts_at" in changes or "ends_at" in changes:
                raise SlotNotFree(self._conflict(db, row, changes, staff_id)) from None
            del changes["staff_id"]
            return self._change(db, row, changes)
        return changes

    def _write(self, db: Session, changes: dict[str, Any]) -> None:
        with db.begin_nested():
            db.execute(
                update(appointments)
                .where(appointments.c.id == self.input.appointment_id)
                # What a sync saga had left here when it was abandoned goes, too: nobody else is at work now.
                .values(
                    **changes,
                    sync_saga_id=None,
                    moving_starts_at=None,
                    moving_ends_at=None,
                    updated_at=func.saga_now(),
                )
            )

    def _conflict(self, db: Session, row: Row[Any], changes: dict[str, Any], staff_id: int) -> str:
        start, end = changes.get("starts_at", row.starts_at), changes.get("ends_at", row.ends_at)
        other = db.scalars(
            select(appointments.c.id)
            .where(
                appointments.c.staff_id == staff_id,
                appointments.c.id != self.input.appointment_id,
                appointments.c.deleted_at.is_(None),
                appointments.c.status.not_in(SLOT_FREE),
                or_(
                    and_(appointments.c.starts_at < end, appointments.c.ends_at > start),
                    and_(appointments.c.moving_starts_at < end, appointments.c.moving_ends_at > start),
                ),
            )
            .limit(1)
        ).first()
        return (
            f"appointment {self.input.appointment_id} was moved at Cal.com to {start.isoformat()}, where staff member "
            f"{staff_id} has appointment {other} in our books; move or cancel one of the two at Cal.com"
        )

    def _audit(self, db: Session, action: str, detail: dict[str, Any]) -> None:
        audit(db, actor=ACTOR, action=action, appointment_id=self.input.appointment_id, saga_id=self.id, detail=detail)
