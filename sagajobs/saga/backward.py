"""Undoing one step of a saga that has turned round: claim, undo, look again, record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from sagajobs.saga import plan
from sagajobs.saga.act import HANDOVER, Act, Outcome, Verdict, claimed
from sagajobs.saga.declaration import LEASE_MARGIN, Step, Undo
from sagajobs.saga.definition import Saga
from sagajobs.saga.events import Lifecycle
from sagajobs.saga.faultpoints import Point, Work, reached
from sagajobs.saga.policy import Failure
from sagajobs.saga.records import SagaRecord, StepRecord
from sagajobs.saga.states import SagaState, StepState
from sagajobs.saga.store import Review, describe_error


def needs_undo(saga: Saga, step: Step) -> bool:
    """Tell whether a step that is done has something to undo: declared, and its condition holds."""
    return step.undo is not None and (step.undo.when is None or bool(step.undo.when(saga, *step.items)))


class Backward(Act):
    """One undo of one step, from the claim to the receipt."""

    def undo(self, connection: Connection, saga: Saga, record: SagaRecord, row: StepRecord, undo: Undo) -> Outcome:
        """Undo a step whose row `connection` has locked.

        A local undo's first try is one transaction, claimed by the row's lock; everything else goes on record first.
        """
        waiting = self.hold(connection, saga, record, row)
        if waiting is not None:
            return waiting
        attempt = row.undo_attempts + 1
        if attempt > undo.retry.max_attempts:
            return self._give_up(connection, record, row, "every attempt died at work", {"attempts": row.undo_attempts})
        if not self.step.external and row.undo_attempts == 0 and record.hints == 0:
            self.say(Lifecycle.COMPENSATION_STARTED, attempt)
            reached(Point.AFTER_CLAIM, self.saga_id, self.step.name)
            return self._undo_locally(connection, saga, record, row, undo, attempt)
        lease = undo.timeout + LEASE_MARGIN if self.step.external else None
        self.claim(
            connection,
            record,
            row,
            StepState.UNDOING,
            Lifecycle.COMPENSATION_STARTED,
            undo_attempts=attempt,
            lease=lease or HANDOVER,
            next_in=lease,
            progress=False,
        )
        self.committed(connection)
        self.say(Lifecycle.COMPENSATION_STARTED, attempt)
        reached(Point.AFTER_CLAIM, self.saga_id, self.step.name)
        row = claimed(row, StepState.UNDOING, undo_attempts=attempt)
        if self.step.external:
            return self._undo_outside(saga, record, row, undo, attempt)
        with self.database.engine.connect() as working:
            self.relock(working, row)
            return self._undo_locally(working, saga, record, row, undo, attempt)

    def _undo_locally(
        self,
        connection: Connection,
        saga: Saga,
        record: SagaRecord,
        row: StepRecord,
        undo: Undo,
        attempt: int,
    ) -> Outcome:
        try:
            with self.database.session(connection) as db:
                receipt = self.carry_out(Work.UNDO, undo.method, saga, db, attempt=attempt)
        except Exception as error:  # noqa: BLE001 - whatever an undo raises is the engine's to classify
            connection.close()  # which rolls back
            return self._failed(record, row, undo, error, attempt)
        reached(Point.AFTER_CALL, self.saga_id, self.step.name)
        return self._undone(connection, saga, record, row, receipt, attempt)

    def _undo_outside(self, saga: Saga, record: SagaRecord, row: StepRecord, undo: Undo, attempt: int) -> Outcome:
        try:
            receipt = self.carry_out(Work.UNDO, undo.method, saga, row.output, attempt=attempt)
        except Exception as error:  # noqa: BLE001 - whatever an undo raises is the engine's to classify
            return self._failed(record, row, undo, error, attempt)
        reached(Point.AFTER_CALL, self.saga_id, self.step.name)
        with self.database.engine.connect() as connection:
            if undo.note is not None:
                try:
                    with self.database.session(connection) as db:
                        undo.note(saga, db, receipt, *self.step.items)
                except Exception as error:  # noqa: BLE001 - undone outside, not recorded here: undo it again
                    connection.close()  # which rolls back
                    return self._failed(record, row, undo, error, attempt)
            return self._undone(connection, saga, record, row, receipt, attempt)

    def _undone(
        self,
        connection: Connection,
        saga: Saga,
        record: SagaRecord,
        row: StepRecord,
        receipt: Any,
        attempt: int,
    ) -> Outcome:
        """Record an undo with its evidence; the last one ends the saga in the same commit."""
        steps = dict(record.steps)
        steps[self.step.name] = replace(steps[self.step.name], state=StepState.UNDONE)
        left = plan.next_undo(replace(record, steps=steps), self.kind.definition, lambda step: needs_undo(saga, step))
        written = self.record(
            connection,
            record,
            row,
            StepState.UNDONE,
            Lifecycle.COMPENSATION_COMPLETED,
            saga_to=SagaState.COMPENSATED if left is None else SagaState.COMPENSATING,
            undo_attempts=attempt,
            receipt=receipt,
            said_attempt=attempt,
        )
        return Outcome(Verdict.CARRY_ON if written.saga_state is SagaState.COMPENSATING else Verdict.END)

    def _failed(self, record: SagaRecord, row: StepRecord, undo: Undo, error: Exception, attempt: int) -> Outcome:
        """Record an undo that failed: to be tried again, or for good and for a person.

        An ambiguous failure is tried again like a transient one: an undo bears repetition.
        """
        kind = undo.retry.classify(error, external=self.step.external)
        described = describe_error(error, self.step.name, attempt, kind)
        with self.database.engine.connect() as connection:
            spent = attempt - 1 if kind is Failure.DEFERRED else attempt
            if kind is Failure.PERMANENT or spent >= undo.retry.max_attempts:
                row = replace(row, undo_attempts=spent)
                return self._give_up(connection, record, row, "an undo failed", {"error": described}, cause=error)
            delay = undo.retry.delay(attempt, error)
            return self.later(
                connection,
                record,
                row,
                StepState.UNDOING,
                Lifecycle.COMPENSATION_RETRY,
                undo_attempts=spent,
                error=described,
                delay=delay,
                detail=self.said_of(described, kind, delay),
                said_attempt=attempt,
                cause=error,
            )

    def _give_up(
        self,
        connection: Connection,
        record: SagaRecord,
        row: StepRecord,
        reason: str,
        evidence: dict[str, Any],
        *,
        cause: BaseException | None = None,
    ) -> Outcome:
        """Halt: what lies below must not be undone while this still stands (SPEC G4)."""
        if row.state is StepState.DONE:
            # The step's own arrow into `undo_failed` leads through `undoing`, as the history should show.
            self.write(
                connection,
                record,
                row,
                StepState.UNDOING,
                Lifecycle.COMPENSATION_STARTED,
                bump=True,
                progress=False,
            )
            row = claimed(row, StepState.UNDOING)
        self.record(
            connection,
            record,
            row,
            StepState.UNDO_FAILED,
            Lifecycle.COMPENSATION_FAILED,
            saga_to=SagaState.MANUAL_REVIEW_REQUIRED,
            undo_attempts=row.undo_attempts,
            detail=evidence.get("error") and {"error": evidence["error"]["class"]},
            review=Review(reason=reason, evidence=evidence),
            said_attempt=row.undo_attempts,
        )
        return Outcome(Verdict.END, cause=cause)
