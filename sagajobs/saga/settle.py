"""Settling a step whose outcome is unknown: look at the outside world before anything is repeated or undone (G3)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sagajobs.errors import EffectGone
from sagajobs.saga.act import Outcome, Verdict, claimed
from sagajobs.saga.declaration import Probe
from sagajobs.saga.events import Lifecycle
from sagajobs.saga.faultpoints import Point, Work, reached
from sagajobs.saga.forward import CANNOT_TELL, Forward
from sagajobs.saga.policy import DEFAULT_UNDO_RETRY, Failure
from sagajobs.saga.records import SagaRecord, StepRecord
from sagajobs.saga.states import SagaState, StepState
from sagajobs.saga.store import Review, describe_error


class Settle(Forward):
    """One look at the outside world, in either direction of the saga."""

    def settle(self, connection: Connection, record: SagaRecord, row: StepRecord) -> Outcome:  # noqa: PLR0911 - a table
        """Claim the step for a look, look, and record what was seen.

        An external step without a probe is idempotent by its author's word: it is repeated instead, also while the
        saga is being undone, as only its result tells what there is to undo.
        """
        saga = self.kind.restore(self.saga_id, record.input, record.results)
        waiting = self.hold(connection, saga, record, row)
        if waiting is not None:
            return waiting
        finder = self.step.finder
        patience = finder.retry.max_attempts + 2 * finder.looks if finder else DEFAULT_UNDO_RETRY.max_attempts
        if row.probes > patience:
            # A look that fails is counted and ends in `_cannot_tell`; so many can only be looks that never came back.
            return self._ask(connection, record, row, {"probes": row.probes})
        to = StepState.UNKNOWN if finder else StepState.RUNNING
        self.claim(
            connection,
            record,
            row,
            to,
            Lifecycle.STEP_PROBED,
            probes=row.probes + 1,
            lease=self.step.lease,
            next_in=self.step.lease,
        )
        self.committed(connection)
        row = claimed(row, to, probes=row.probes + 1)
        if finder is None:
            return self.call(saga, record, row)
        reached(Point.AFTER_CLAIM, self.saga_id, self.step.name)
        try:
            found = self.carry_out(Work.PROBE, finder.look, saga, self.key, attempt=row.probes)
        except EffectGone as error:
            return self._gone(record, row, error)
        except Exception as error:  # noqa: BLE001 - whatever a probe raises, it could not tell
            return self._cannot_tell(record, row, error)
        reached(Point.AFTER_CALL, self.saga_id, self.step.name)
        if found is None:
            return self._absent(record, row, finder)
        return self.happened(saga, record, row, found)

    def _failed(self, saga: SagaRecord, row: StepRecord, error: Exception, attempt: int) -> Outcome:
        if saga.state is SagaState.COMPENSATING:
            # Repeated to learn its result, and it did not answer: it may stand, so it is neither waiting nor failed.
            return self._cannot_tell(saga, row, error)
        return super()._failed(saga, row, error, attempt)

    def _gone(self, record: SagaRecord, row: StepRecord, error: EffectGone) -> Outcome:
        with self.database.engine.connect() as connection:
            described = describe_error(error, self.step.name, row.attempts, Failure.PERMANENT)
            return self.fail(connection, record, row, described)

    def _absent(self, record: SagaRecord, row: StepRecord, finder: Probe) -> Outcome:
        """Count a look that saw nothing; enough of them, far enough apart, and it did not happen."""
        seen_nothing = row.absences + 1
        with self.database.engine.connect() as connection:
            if seen_nothing < finder.looks or row.absent_for < finder.over:
                return self._look_again(connection, record, row, finder.interval, absences=seen_nothing)
            if row.landing > 0:  # its caller is dead, its call need not be
                return self._look_again(connection, record, row, row.landing, absences=seen_nothing)
            error = self._told(row)
            undoing = record.state is SagaState.COMPENSATING
            used_up = row.attempts >= self.step.most_attempts
            if used_up and not undoing and error.get("attempt") != row.attempts:
                return self.exhausted(connection, record, row)  # the last attempt ended without a word, too
            kind = Failure.PERMANENT if error.get("refused") else Failure.TRANSIENT
            if not undoing and self.degrades(kind, row.attempts):
                return self.degrade(connection, record, row, error, spent=row.attempts)
            if undoing or used_up or kind is Failure.PERMANENT:
                return self.fail(connection, record, row, error)
            self.record(
                connection,
                record,
                row,
                StepState.WAITING,
                Lifecycle.STEP_RETRY,
                probes=0,
                absences=0,
                next_in=0.0,
                detail={**self.said_of(error, error["kind"], 0.0), "probe": "it did not happen"},
                said_attempt=row.attempts,
            )
            return Outcome(Verdict.LATER)

    def _told(self, row: StepRecord) -> dict[str, Any]:
        """Return what the last attempt ended in; the error on record is an earlier one's if its worker died in it."""
        error = dict(row.error or {})
        if error.get("attempt") == row.attempts:
            return error
        return {"step": self.step.name, "class": "NeverHappened", "message": "not there", "kind": Failure.AMBIGUOUS}

    def _cannot_tell(self, record: SagaRecord, row: StepRecord, error: Exception) -> Outcome:
        """Put off a look that failed itself; too many of them, and a person must look."""
        retry = self.step.finder.retry if self.step.finder else DEFAULT_UNDO_RETRY
        kind = retry.classify(error, external=True)
        described = describe_error(error, self.step.name, row.attempts, kind)
        with self.database.engine.connect() as connection:
            spent = row.probes - 1 if kind is Failure.DEFERRED else row.probes
            if spent < retry.max_attempts:
                delay = retry.delay(row.probes, error)
                return self._look_again(connection, record, row, delay, probes=spent, detail=described["class"])
            return self._ask(connection, record, row, {"probe": described}, cause=error)

    def _ask(
        self,
        connection: Connection,
        record: SagaRecord,
        row: StepRecord,
        evidence: dict[str, Any],
        *,
        cause: BaseException | None = None,
    ) -> Outcome:
        """Ask a person whether it happened."""
        self.record(
            connection,
            record,
            row,
            row.state,
            Lifecycle.STEP_UNKNOWN,
            saga_to=SagaState.MANUAL_REVIEW_REQUIRED,
            review=Review(
                reason=CANNOT_TELL,
                evidence={"error": row.error and dict(row.error), **evidence},
            ),
            said_attempt=row.attempts,
        )
        return Outcome(Verdict.END, cause=cause)

    def _look_again(
        self,
        connection: Connection,
        record: SagaRecord,
        row: StepRecord,
        delay: float,
        *,
        detail: str = "nothing there",
        **changes: Any,
    ) -> Outcome:
        return self.later(
            connection,
            record,
            row,
            row.state,
            Lifecycle.STEP_UNKNOWN,
            delay=delay,
            detail={"probe": detail, "delay": round(delay, 3)},
            **changes,
            said_attempt=row.attempts,
        )
