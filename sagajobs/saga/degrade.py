"""Instead of failing: a step marks something for retry and goes on trying, slowly (the seed's graceful degradation)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from sagajobs.saga.act import Act, Outcome, Verdict
from sagajobs.saga.events import Lifecycle
from sagajobs.saga.policy import Failure, passes_by_itself
from sagajobs.saga.records import SagaRecord, StepRecord
from sagajobs.saga.states import SagaState, StepState
from sagajobs.saga.store import Review, describe_error


class Degrade(Act):
    """What a step with a `Degradation` does when its own attempts are used up."""

    def degrades(self, kind: Failure, spent: int) -> bool:
        """Tell whether the step has come to where it degrades instead of failing (see `Degradation`).

        Past the pivot also when it failed for good: what was done outside stays, and somebody must hear of it here.
        """
        if self.step.degraded is None or kind is Failure.DEFERRED:
            return False
        return spent >= self.step.retry.max_attempts or (kind is Failure.PERMANENT and self.step.after_pivot)

    def degrade(
        self,
        connection: Connection,
        record: SagaRecord,
        row: StepRecord,
        error: Mapping[str, Any],
        *,
        spent: int,
        cause: BaseException | None = None,
    ) -> Outcome:
        """Mark for retry and try again slowly, the saga `partial` past the pivot; used up, or unmarkable: a person."""
        degraded = self.step.degraded
        if degraded is None:
            raise AssertionError(f"step {self.step.name} has no degradation")
        spent = max(spent, self.step.retry.max_attempts)
        if spent >= self.step.most_attempts:
            return self._give_up(connection, record, row, error, "tried again in vain", spent=spent, cause=cause)
        saga = self.kind.restore(self.saga_id, record.input, record.results)
        try:
            with self.database.session(connection) as db:
                degraded.mark(saga, db, error, *self.step.items)
        except Exception as failure:
            connection.rollback()
            if passes_by_itself(failure):
                raise  # the table stands as it was, and the sweep comes back to it
            unmarked = {**error, "marking": describe_error(failure, self.step.name, spent, Failure.PERMANENT)}
            return self._give_up(
                connection, record, row, unmarked, "it could not even be marked for retry", spent=spent, cause=failure
            )
        delay = self.step.delay(spent)
        return self.later(
            connection,
            record,
            row,
            StepState.WAITING,
            Lifecycle.STEP_DEGRADED,
            saga_to=SagaState.PARTIAL if self.step.after_pivot else SagaState.RUNNING,
            attempts=spent,
            probes=0,
            absences=0,
            error=error,
            delay=delay,
            detail=self.said_of(error, error.get("kind", Failure.TRANSIENT), delay),
            said_attempt=spent,
            cause=cause,
        )

    def _give_up(
        self,
        connection: Connection,
        record: SagaRecord,
        row: StepRecord,
        error: Mapping[str, Any],
        reason: str,
        *,
        spent: int,
        cause: BaseException | None,
    ) -> Outcome:
        """Ask a person about a step that can neither fail, as what was done outside stays, nor go on."""
        self.record(
            connection,
            record,
            row,
            StepState.FAILED,
            Lifecycle.COMPENSATION_FAILED if "marking" in error else Lifecycle.STEP_FAILED,
            saga_to=SagaState.MANUAL_REVIEW_REQUIRED,
            attempts=spent,
            error=error,
            saga_error=error,
            detail={"error": error["class"]},
            review=Review(reason=reason, evidence={"error": dict(error)}),
            said_attempt=spent,
        )
        return Outcome(Verdict.END, cause=cause)
