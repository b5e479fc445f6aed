"""Carrying out one delivery of a step going forward: claim, work, record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from sagajobs.errors import AmbiguousRefusal, ClaimLost, LockNotAvailable
from sagajobs.saga.act import HANDOVER, Outcome, Verdict, claimed
from sagajobs.saga.declaration import Probe
from sagajobs.saga.definition import Saga
from sagajobs.saga.degrade import Degrade
from sagajobs.saga.events import Lifecycle
from sagajobs.saga.faultpoints import Point, Work, reached
from sagajobs.saga.locks import LOOK_AGAIN, take_locks
from sagajobs.saga.plan import Do, Plan
from sagajobs.saga.policy import Failure
from sagajobs.saga.records import Look, SagaRecord, StepRecord
from sagajobs.saga.states import FORWARD, SagaState, StepState
from sagajobs.saga.store import Review, describe_error

CANNOT_TELL = "nothing can tell whether it happened"
"""Why a person is asked about a step that may stand."""

POLL_LOCK = 0.05
"""Seconds after which a caller that runs its saga itself asks again for a lock."""


class Forward(Degrade):
    """One delivery of one step, from the claim to the record."""

    def begin(self, connection: Connection, look: Look, row: StepRecord, todo: Plan) -> Outcome:  # noqa: PLR0911 - a table
        """Turn the plan into work, in or after the transaction that holds the step's row."""
        record = look.saga
        if todo.do is Do.TOO_LATE:
            late = {"step": self.step.name, "class": "DeadlineExceeded", "message": "useful_until has passed"}
            return self.fail(connection, record, row, late | {"in_doubt": self._in_doubt(row)})
        if todo.do is Do.EXHAUSTED:
            return self.exhausted(connection, record, row)
        saga = self.kind.restore(self.saga_id, record.input, record.results)
        if self.step.when is not None and not self.step.when(saga, *self.step.items):
            written = self.record(
                connection,
                record,
                row,
                StepState.SKIPPED,
                Lifecycle.STEP_SKIPPED,
                finished=True,
                said_attempt=row.attempts,
            )
            return self.went_on(record, row, written)
        # Locks last: one that lets go of them has nobody wait for what it does not do now anyway.
        waiting = (
            self.hold(connection, saga, record, row)
            or self._await_turn(connection, saga, record, row)
            or self._await_locks(connection, saga, record, row)
        )
        if waiting is not None:
            return waiting
        if not todo.counted:
            return self._work(connection, saga, record, row, todo.attempt)
        row = self._claim(connection, record, row, todo.attempt)
        if self.step.external:
            return self.call(saga, record, row)
        with self.database.engine.connect() as working:
            self.relock(working, row)
            return self._work(working, saga, record, row, todo.attempt)

    def _await_locks(self, connection: Connection, saga: Saga, record: SagaRecord, row: StepRecord) -> Outcome | None:
        """Take the saga's locks with its first step, or again after it has let go of them; None: it has them.

        Before the attempt is counted, in the transaction that goes on to claim the step or to do it. One that must
        wait keeps its place in line, and is told when the lock is handed to it.
        """
        wanted = tuple(saga.locks()) if row.stage == 0 or self.lets_go else ()
        missing = take_locks(connection, self.saga_id, wanted, saga.lock_wait) if wanted else None
        if missing is None:
            return None
        if missing.over:
            held = LockNotAvailable(f"{missing.resource} was not free for {saga.lock_wait:g} s: try again later")
            described = describe_error(held, self.step.name, row.attempts, Failure.PERMANENT)
            return self.fail(connection, record, row, described, cause=held)
        outcome = self.postpone(connection, record, row, delay=None, next_in=min(LOOK_AGAIN, saga.lock_wait))
        return replace(outcome, wait=POLL_LOCK)

    def _await_turn(self, connection: Connection, saga: Saga, record: SagaRecord, row: StepRecord) -> Outcome | None:
        """Put an attempt off until it may be its turn; None: go ahead, though another may still be faster."""
        turn = self.step.turn
        return self.put_off(connection, record, row, turn(saga, *self.step.items) if turn is not None else 0.0)

    def _claim(self, connection: Connection, saga: SagaRecord, row: StepRecord, attempt: int) -> StepRecord:
        """Put the intent on record under a new fence, and commit.

        An external step's outcome may be in doubt from now on: its lease is as long as its call can last.
        """
        lease = self.step.lease if self.step.external else None
        self.claim(
            connection,
            saga,
            row,
            StepState.RUNNING,
            Lifecycle.STEP_EXECUTING,
            attempts=attempt,
            lease=lease or HANDOVER,
            next_in=lease,
            error=dict(row.error or {}) | {"in_doubt": True} if self._in_doubt(row) else None,
        )
        self.committed(connection)
        self.say(Lifecycle.STEP_EXECUTING, attempt)
        reached(Point.AFTER_CLAIM, self.saga_id, self.step.name)
        error = {**(row.error or {}), "in_doubt": self._in_doubt(row)}
        return claimed(row, StepState.RUNNING, attempts=attempt, error=error)

    def _work(self, connection: Connection, saga: Saga, record: SagaRecord, row: StepRecord, attempt: int) -> Outcome:
        """Run a local step: its writes and the record that it is done are one transaction (SPEC G2)."""
        if row.state is StepState.WAITING:
            self.say(Lifecycle.STEP_EXECUTING, attempt)
            reached(Point.AFTER_CLAIM, self.saga_id, self.step.name)
        try:
            with self.database.session(connection) as db:
                output = self.carry_out(Work.STEP, self.step.method, saga, db, attempt=attempt)
        except Exception as error:  # noqa: BLE001 - whatever a step raises is the engine's to classify
            connection.close()  # which rolls back
            return self._failed(record, row, error, attempt)
        reached(Point.AFTER_CALL, self.saga_id, self.step.name)
        return self._done(connection, record, row, output, attempt)

    def call(self, saga: Saga, record: SagaRecord, row: StepRecord) -> Outcome:
        """Make a claimed external step's call, with no transaction open, and record what came of it.

        Raises:
            ClaimLost: too much time has passed since the claim, or somebody else owns the step by now.
        """
        self.check_time()
        try:
            output = self.carry_out(Work.STEP, self.step.method, saga, self.key, attempt=row.attempts)
        except Exception as error:  # noqa: BLE001 - whatever a step raises is the engine's to classify
            return self._failed(record, row, error, row.attempts)
        reached(Point.AFTER_CALL, self.saga_id, self.step.name)
        return self.happened(saga, record, row, output)

    def happened(self, saga: Saga, record: SagaRecord, row: StepRecord, output: Any) -> Outcome:
        """Commit an external step's result, with its local writes, under the fence of the claim."""
        with self.database.engine.connect() as connection:
            if self.step.note is not None:
                try:
                    with self.database.session(connection) as db:
                        self.step.note(saga, db, output, *self.step.items)
                except Exception as error:
                    connection.rollback()
                    if self.step.retry.classify(error, external=False) is Failure.TRANSIENT:
                        # Nothing is on record, and the effect stands. The lease runs out, the probe finds it, and
                        # it is recorded then.
                        raise
                    return self._unrecordable(connection, record, row, output, error)
            return self._done(connection, record, row, output, row.attempts)

    def _done(self, connection: Connection, saga: SagaRecord, row: StepRecord, output: Any, attempt: int) -> Outcome:
        written = self.write(
            connection,
            saga,
            row,
            StepState.DONE,
            Lifecycle.STEP_COMPLETED,
            attempts=attempt,
            absences=0,
            output=output,
            forget_error=True,
            finished=True,
        )
        followed = written.saga_state in (*FORWARD, SagaState.COMPLETED)
        if not self.step.external and not followed:
            # Paused or turned round while we worked: a local step's effect can still be taken back whole.
            connection.rollback()
            raise ClaimLost(f"saga {self.saga_id} is {written.saga_state}: nothing was written")
        self.commit(connection, Lifecycle.STEP_COMPLETED, attempt, written)
        if written.saga_state is SagaState.COMPENSATING:
            return Outcome(Verdict.FAILED)
        return self.went_on(saga, row, written)

    def _failed(self, saga: SagaRecord, row: StepRecord, error: Exception, attempt: int) -> Outcome:
        """Record a failure: to be tried again, to be probed, or for good."""
        retry = self.step.retry
        kind = retry.classify(error, external=self.step.external)
        in_doubt = bool((row.error or {}).get("in_doubt"))
        if kind is Failure.AMBIGUOUS and self.step.finder is None:
            kind = Failure.TRANSIENT  # idempotent by its author's word: repeating it settles the question
            in_doubt = True
        described = describe_error(error, self.step.name, attempt, kind) | {"in_doubt": in_doubt}
        with self.database.engine.connect() as connection:
            if kind is Failure.AMBIGUOUS and self.step.finder is not None:
                return self._unknown(connection, saga, row, described, error, self.step.finder)
            spent = attempt - 1 if kind is Failure.DEFERRED else attempt
            if self.degrades(kind, spent):
                return self.degrade(connection, saga, row, described, spent=spent, cause=error)
            if kind is Failure.PERMANENT or spent >= retry.max_attempts:
                return self.fail(connection, saga, row, described, attempt=attempt, cause=error)
            delay = retry.delay(attempt, error)
            return self.later(
                connection,
                saga,
                row,
                StepState.WAITING,
                Lifecycle.STEP_RETRY,
                attempts=spent,
                error=described,
                delay=delay,
                detail=self.said_of(described, kind, delay),
                said_attempt=attempt,
                cause=error,
            )

    def _unknown(
        self,
        connection: Connection,
        saga: SagaRecord,
        row: StepRecord,
        described: dict[str, Any],
        error: Exception,
        finder: Probe,
    ) -> Outcome:
        """Record that the call may have got through; the first look follows after one interval of the probe."""
        described["refused"] = isinstance(error, AmbiguousRefusal)
        delay = 0.0 if described["refused"] else finder.interval
        return self.later(
            connection,
            saga,
            row,
            StepState.UNKNOWN,
            Lifecycle.STEP_UNKNOWN,
            error=described,
            probes=0,
            absences=0,
            delay=delay,
            detail={"error": described["class"]},
            said_attempt=row.attempts,
            cause=error,
        )

    def fail(
        self,
        connection: Connection,
        saga: SagaRecord,
        row: StepRecord,
        error: Mapping[str, Any],
        *,
        attempt: int | None = None,
        cause: BaseException | None = None,
    ) -> Outcome:
        """Record a failure for good: the saga goes on (optional), turns round, or asks a person.

        A person is asked past the pivot, and where an attempt may stand that nothing could undo: of a saga called
        compensated, nothing may stand that is not known to (SPEC G4).
        """
        attempt = row.attempts if attempt is None else attempt
        undoing = saga.state is SagaState.COMPENSATING
        goes_on = self.step.optional or undoing
        in_doubt = bool(error.get("in_doubt")) and not undoing
        if in_doubt and self.step.undo is not None:
            return self._turn_in_doubt(connection, saga, row, error, attempt, cause)
        if in_doubt and not goes_on and not self.step.after_pivot:
            return self._ask_about(connection, saga, row, error, CANNOT_TELL, attempt=attempt, cause=cause)
        review = None
        if self.step.after_pivot and not goes_on:
            review = Review(reason="failed past the pivot", evidence={"error": dict(error)})
        turned = SagaState.MANUAL_REVIEW_REQUIRED if review else SagaState.COMPENSATING
        written = self.record(
            connection,
            saga,
            row,
            StepState.FAILED,
            Lifecycle.STEP_FAILED,
            saga_to=None if goes_on else turned,
            attempts=attempt,
            error=error,
            saga_error=None if goes_on else error,
            detail={"error": error["class"]},
            review=review,
            said_attempt=attempt,
        )
        if written.saga_state is SagaState.COMPENSATING:
            return Outcome(Verdict.FAILED, cause=cause)
        return replace(self.went_on(saga, row, written), cause=cause)

    def _in_doubt(self, row: StepRecord) -> bool:
        """Tell whether an earlier attempt may have got through, with no probe to tell: it died, or it said so."""
        unprobed = self.step.external and self.step.finder is None
        return unprobed and (row.state is StepState.RUNNING or bool((row.error or {}).get("in_doubt")))

    def _turn_in_doubt(
        self,
        connection: Connection,
        saga: SagaRecord,
        row: StepRecord,
        error: Mapping[str, Any],
        attempt: int,
        cause: BaseException | None,
    ) -> Outcome:
        """Turn round with the step's outcome open: undoing repeats it first, as only its result tells what to undo.

        Also for an optional step: going on would leave standing what a later failure could not undo.
        """
        written = self.record(
            connection,
            saga,
            row,
            StepState.RUNNING,  # as after a death at work: open, and nobody's
            Lifecycle.STEP_FAILED,
            saga_to=SagaState.COMPENSATING,
            attempts=attempt,
            probes=0,
            error=error,
            saga_error=error,
            detail={"error": error["class"]},
            said_attempt=attempt,
        )
        turned = written.saga_state is SagaState.COMPENSATING
        return Outcome(Verdict.FAILED if turned else Verdict.END, cause=cause)

    def exhausted(self, connection: Connection, saga: SagaRecord, row: StepRecord) -> Outcome:
        """Open a case for a step whose every delivery ended without a word: it kills its workers."""
        error = {
            "step": self.step.name,
            "class": "AttemptsExhausted",
            "message": f"{row.attempts} deliveries, none of which came back",
            "in_doubt": self._in_doubt(row),
        }
        if self.step.optional:
            return self.fail(connection, saga, row, error)
        return self._ask_about(connection, saga, row, error, "every attempt died at work", attempt=row.attempts)

    def _ask_about(
        self,
        connection: Connection,
        saga: SagaRecord,
        row: StepRecord,
        error: Mapping[str, Any],
        reason: str,
        *,
        attempt: int,
        cause: BaseException | None = None,
    ) -> Outcome:
        """Ask a person about a step that failed and of which something may stand."""
        written = self.write(
            connection,
            saga,
            row,
            StepState.FAILED,
            Lifecycle.STEP_FAILED,
            saga_to=SagaState.MANUAL_REVIEW_REQUIRED,
            attempts=attempt,
            error=error,
            saga_error=error,
            detail={"error": error["class"]},
            review=Review(reason=reason, evidence={"error": dict(error)}),
        )
        if written.saga_state is SagaState.COMPENSATING:
            # Turned round by one beside it since we looked: undoing settles what may stand of a step left open.
            raise ClaimLost(f"saga {self.saga_id} is being undone by now")
        self.commit(connection, Lifecycle.STEP_FAILED, attempt, written)
        return Outcome(Verdict.END, cause=cause)

    def _unrecordable(
        self, connection: Connection, saga: SagaRecord, row: StepRecord, output: Any, error: Exception
    ) -> Outcome:
        """Turn round with the step done: its effect stands outside and our own tables refuse to know of it."""
        described = describe_error(error, self.step.name, row.attempts, Failure.PERMANENT)
        review = None
        if self.step.pivot or self.step.after_pivot:
            review = Review(reason="done outside, refused here", evidence={"error": described, "output": output})
        self.record(
            connection,
            saga,
            row,
            StepState.DONE,
            Lifecycle.STEP_FAILED,
            saga_to=SagaState.MANUAL_REVIEW_REQUIRED if review else SagaState.COMPENSATING,
            output=output,
            error=described,
            saga_error=described,
            finished=True,
            detail={"error": described["class"]},
            review=review,
            said_attempt=row.attempts,
        )
        return Outcome(Verdict.END if review else Verdict.FAILED, cause=error)
