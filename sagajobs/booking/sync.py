"""`AppointmentSyncSaga`: an appointment is changed here and at Cal.com, one change at a time (SPEC 4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from sagajobs.booking.appointment import Appointment
from sagajobs.booking.bookingsaga import BookingSaga
from sagajobs.booking.change import Change, snapshot
from sagajobs.booking.changes import Creation, Move, change_of
from sagajobs.booking.compensation import DatabaseCompensationService
from sagajobs.booking.errors import NoLongerPossible, NothingToAdopt
from sagajobs.booking.local import (
    appointment_lock,
    change_appointment,
    is_in_work,
    mark_for_retry,
    mark_for_review,
    mark_settled,
    read_appointment,
)
from sagajobs.booking.outside import CALCOM_RETRY, away
from sagajobs.booking.syncrequest import Request, SyncOperation, SyncRequest
from sagajobs.calcom.models import BookingStatus
from sagajobs.errors import InvalidInput, SagaCompensationException, SagaException, SagaNotFinished
from sagajobs.saga import RetryPolicy, SagaHandle, SagaState, step
from sagajobs.saga.definition import PATIENCE
from sagajobs.saga.records import SagaRecord
from sagajobs.saga.schema import saga_steps

SLOWLY = RetryPolicy(max_attempts=30, base=120.0, max_delay=3600.0)
"""Once marked for retry: after two minutes, four, eight and so on, then hourly, for about a day; never so soon that a
caller in process (`PATIENCE`) would wait for it. An outage that lasts longer is one that somebody must hear of."""

CACHE_RETRY = RetryPolicy(max_attempts=2)
"""One more try after a second: somebody may wait for `run`, and the cache forgets by itself in five minutes."""


class AppointmentSyncSaga(BookingSaga):
    """Change an appointment at Cal.com and here; what is done there stays done, and is caught up with here."""

    name = "appointment_sync"
    Input = SyncRequest

    input: SyncRequest
    _until: datetime | None = None

    def locks(self) -> Iterable[str]:
        """Return the appointment's: it belongs to one saga at a time, from its first step to its end."""
        return [appointment_lock(self._request.appointment_id)]

    def useful_until(self) -> datetime | None:
        """Return the time after which the change is of no use any more; `check` has read what it depends on."""
        return self._until

    # --- the steps ---

    @step(needed=True)
    def lock_appointment(self, db: Session) -> dict[str, Any]:
        """Put on record how the appointment stands, and have it show that it is being changed (the seed's RC3).

        What is to come is checked once more: the changes that this one has waited for may have left no room for it. An
        appointment that is to be moved holds both its slots from now on.
        """
        number = self._request.appointment_id
        row = read_appointment(db, number, lock=True)
        if row is None:
            raise NoLongerPossible(f"appointment {number} has been deleted")
        before = snapshot(row)
        change = self._change(before)
        if problems := change.problems():
            raise NoLongerPossible("; ".join(problems))
        if change.idle():
            return {"before": before, "nothing_to_do": True}
        values: dict[str, Any] = {}
        if isinstance(change, Move):
            values = {"moving_starts_at": change.data.start, "moving_ends_at": change.ends_later}
        elif isinstance(change, Creation):
            values = {"status": "pending"}
        change_appointment(db, number, calcom_sync_status="pending", **values)
        return {"before": before, "nothing_to_do": False}

    @lock_appointment.compensation(when=lambda saga: not saga.idle)
    def revert_appointment(self, db: Session) -> dict[str, Any]:
        """Take the appointment back to the status on record; a slot that it was to be moved to is free again."""
        return self._revert(db, "the saga was undone")

    @step(
        external=True,
        pivot=True,
        timeout=40,
        retry=CALCOM_RETRY,
        when=lambda saga: not saga.idle,
        hold=away,
        turn=lambda saga: saga.turn(),
    )
    def call_calcom(self, key: str) -> dict[str, Any]:
        """Have Cal.com make the change."""
        return self._change(self._before).call(key)

    @call_calcom.probe(looks=3, over=4.0)
    def find_change(self, key: str) -> dict[str, Any] | None:
        """Look at Cal.com whether the change was made."""
        return self._change(self._before).find(key)

    @call_calcom.by_hand
    def take_over(self, uid: str) -> dict[str, Any]:
        """Take over what an operator has done at Cal.com, if the booking shows it."""
        found = self._change(self._before).find_made_by_hand(uid, f"{self.id}/call_calcom")
        if found is None:
            raise NothingToAdopt(
                f"Cal.com does not show the change (yet), and booking {uid} is not what it would come to"
            )
        return found

    @call_calcom.degradation(retry=SLOWLY)
    def mark_unsynced(self, db: Session, error: Mapping[str, Any]) -> None:
        """Cal.com is away: mark the appointment for retry, and go on trying."""
        self._mark(db, error)

    @step(when=lambda saga: not saga.idle)
    def update_local(self, db: Session) -> dict[str, Any]:
        """Have the appointment show what is true at Cal.com by now: the change, or none if an operator did without."""
        if "call_calcom" not in self.results:
            return self._revert(db, "an operator did without the change")
        done = self._change(self._before).apply(db, self.results["call_calcom"])
        self._audit(db, f"appointment.{DONE[self._request.operation]}", **done)
        return done

    @update_local.degradation(retry=SLOWLY)
    def mark_behind(self, db: Session, error: Mapping[str, Any]) -> None:
        """Cal.com is right and our own row is behind: mark it for retry, never undo Cal.com."""
        self._mark(db, error)

    @step(optional=True, retry=CACHE_RETRY, when=lambda saga: not saga.idle)
    def invalidate_cache(self, db: Session) -> dict[str, Any]:  # noqa: ARG002 - the cache is not in the database
        """Have web applications read the appointment anew."""
        return DatabaseCompensationService(self.services.actor).invalidate_cache(
            self.services.cache, self._request.appointment_id
        )

    # --- before and after ---

    def check(self, db: Session) -> None:
        """Refuse what cannot be done with the appointment as it stands.

        Of one that another saga is at work on only that is refused which this can change nothing about: the rest is
        looked at when it is its turn.
        """
        number = self._request.appointment_id
        row = read_appointment(db, number)
        if row is None:
            raise InvalidInput(f"{self.name}: appointment_id: there is no appointment {number}", ["appointment_id"])
        change = self._change(snapshot(row))
        problems = change.untimely()
        if not is_in_work(db, number):
            problems = change.problems() or problems
        if problems and not change.idle():
            raise InvalidInput(f"{self.name}: {'; '.join(problems)}", problems)
        self._until = change.until()

    def result(self, db: Session) -> dict[str, Any]:
        """Return what `run` does."""
        without: dict[str, Any] = {"not_synced": [], "receipt": self.results.get("update_local") or {}}
        called = self.results.get("call_calcom") or without
        return {
            "success": self.idle or "call_calcom" in self.results,
            "will_retry": False,
            "saga_id": self.id,
            "appointment": Appointment.load(db, self._request.appointment_id),
            "not_synced": called["not_synced"],
            "receipt": called["receipt"],
        }

    def note_review(self, db: Session) -> None:
        """Have the appointment, while it is out of step, show that a person must look (the seed's third strategy)."""
        if self._is_out_of_step:
            mark_for_review(db, self._request.appointment_id)
            self._audit(db, "appointment.review_required")

    def note_settled(self, db: Session, step: str | None) -> None:  # noqa: ARG002 - whatever it was about
        """Have the appointment show that nobody is asked about it any more."""
        if self._is_out_of_step:
            mark_settled(db, self._request.appointment_id, self.id)

    @classmethod
    def public_status(cls, record: SagaRecord) -> str:
        """Return the customer's word for where the appointment stands (SPEC 6)."""
        operation = record.input["operation"]
        if record.state is SagaState.MANUAL_REVIEW_REQUIRED:
            return "needs us"
        if record.state is SagaState.COMPLETED:
            called = record.results.get("call_calcom") or {}
            if operation == SyncOperation.CANCEL and called:
                return "cancelled"
            return _standing(record, called.get("status"))
        if record.state is SagaState.COMPENSATED:
            return _standing(record, None)
        return "being cancelled" if operation == SyncOperation.CANCEL else "confirming"

    # --- what a caller uses ---

    @classmethod
    def enqueue(  # type: ignore[override]  # the arguments that SPEC 10 names
        cls,
        appointment_id: int,
        operation: str,
        data: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        session: Session | None = None,
    ) -> SagaHandle:
        """Record a change and let Celery carry it out.

        Args:
            appointment_id: the appointment.
            operation: create, update, cancel or reschedule (`sagajobs.booking.syncrequest`).
            data: what the operation takes.
            idempotency_key: as for `Saga.enqueue`.
            session: likewise.

        Returns:
            A handle; its `result()` is what `run` returns of a change that was made.

        Raises:
            InvalidInput: it makes no sense; nothing was written.
            IdempotencyConflict: the key was used with another request.
        """
        request = {"appointment_id": appointment_id, "operation": operation, "data": dict(data or {})}
        return super().enqueue(request, idempotency_key, session)

    @classmethod
    def run(  # type: ignore[override]  # the arguments that SPEC 10 names
        cls,
        appointment_id: int,
        operation: str,
        data: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        patience: float = PATIENCE,
    ) -> dict[str, Any]:
        """Change an appointment in this process.

        Args:
            appointment_id: the appointment.
            operation: create, update, cancel or reschedule.
            data: what the operation takes.
            idempotency_key: as for `Saga.run`.
            patience: seconds to wait for retries before the workers take over.

        Returns:
            `success`; `will_retry`: not yet, and it goes on by itself; `saga_id`; `appointment`: as it stands. Of a
            success `not_synced`: names of what Cal.com did not take, and `receipt`: what it holds on to. Else `error`:
            one line; with `will_retry` false everything is as it was before, but for what the `receipt` of the undo
            names: `may_stand`, what an attempt may have left at Cal.com (guests that were invited).

        Raises:
            InvalidInput: it makes no sense; nothing was written.
            SagaCompensationException: critical: a person must look at it, the appointment is marked for it.
        """
        request = {"appointment_id": appointment_id, "operation": operation, "data": dict(data or {})}
        try:
            done: dict[str, Any] = super().run(request, idempotency_key=idempotency_key, patience=patience)
        except SagaCompensationException:
            raise
        except SagaNotFinished as error:
            return cls._failed(appointment_id, error, goes_on=True)
        except SagaException as error:
            return cls._failed(appointment_id, error, goes_on=False)
        return done

    # --- shared ---

    def turn(self) -> float:
        """Return the seconds until the quota may have something left for the calls of the change; 0 to go ahead."""
        return self._change(self._before).turn()

    @property
    def idle(self) -> bool:
        """Tell whether there is nothing to do, as the first step has found."""
        return bool(self.results["lock_appointment"]["nothing_to_do"])

    @property
    def _is_out_of_step(self) -> bool:
        """Tell whether the appointment shows that it is being changed, and not yet what came of it."""
        begun = "lock_appointment" in self.results and not self.idle
        return begun and "update_local" not in self.results

    @property
    def _request(self) -> Request:
        return self.input.root

    @property
    def _before(self) -> Mapping[str, Any]:
        before: Mapping[str, Any] = self.results["lock_appointment"]["before"]
        return before

    def _change(self, before: Mapping[str, Any]) -> Change[Any]:
        return change_of(self.services, self._request, before)

    def _revert(self, db: Session, reason: str) -> dict[str, Any]:
        may_stand = self._change(self._before).may_stand if self.begun(db, "call_calcom") else ()
        if may_stand:
            reason = f"{reason}; what may stand at Cal.com: {', '.join(may_stand)}"
        receipt = DatabaseCompensationService(self.services.actor).revert_appointment_status(
            db, self._request.appointment_id, self._before, saga_id=self.id, reason=reason
        )
        return receipt | {"may_stand": list(may_stand)}

    def _mark(self, db: Session, error: Mapping[str, Any]) -> None:
        if mark_for_retry(db, self._request.appointment_id, self.id):
            self._audit(db, "appointment.marked_for_retry", error=error["class"])

    def _audit(self, db: Session, action: str, **detail: Any) -> None:
        self.audit(db, action, self._request.appointment_id, **detail)

    @classmethod
    def _failed(cls, appointment_id: int, error: SagaException | SagaNotFinished, *, goes_on: bool) -> dict[str, Any]:
        with Session(cls.engine.database.engine) as db:
            appointment = Appointment.load(db, appointment_id)
            undone = saga_steps.c.saga_id == error.saga_id, saga_steps.c.name == "lock_appointment"
            receipt = db.scalars(select(saga_steps.c.receipt).where(*undone)).one()
        return {
            "success": False,
            "will_retry": goes_on,
            "saga_id": error.saga_id,
            "appointment": appointment,
            "receipt": receipt or {},
            "error": str(error),
        }


DONE = {
    SyncOperation.CREATE: "booked",
    SyncOperation.UPDATE: "updated",
    SyncOperation.CANCEL: "cancelled",
    SyncOperation.RESCHEDULE: "rescheduled",
}
"""The audit trail's word for what was done."""


def _standing(record: SagaRecord, status: str | None) -> str:
    """Return the customer's word for an appointment as it stands, with its booking's status if the change told it."""
    locked = record.steps["lock_appointment"].output
    if locked is None:  # it was never this change's turn, so all that is known is what can be changed at all
        return "held" if record.input["operation"] == SyncOperation.CREATE else "confirmed"
    before = locked["before"]
    if status is None and before["status"] in ("cancelled", "failed"):
        return "cancelled"
    if status is None and before["uid"] is None:
        return "held"
    pending = BookingStatus.PENDING if before["status"] == "pending" else BookingStatus.ACCEPTED
    return "confirmed" if (status or pending) == BookingStatus.ACCEPTED else "confirming"
