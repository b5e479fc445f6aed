"""One look at what a review case is about, and what follows from it.

The step is claimed under a new fence with a lease, as for any probe: of a look, a remedy and a worker back from the
dead, whoever comes late writes nothing (SPEC G5). While the look lasts no transaction is open, and the saga stays in
manual review; it leaves in the commit that records what was seen and closes the case.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection

from sagajobs.errors import ClaimLost, Deferred, EffectGone, TransientError
from sagajobs.saga.act import Act, Outcome, Verdict, claimed
from sagajobs.saga.backward import Backward
from sagajobs.saga.declaration import Probe, Step, Undo
from sagajobs.saga.definition import Saga
from sagajobs.saga.events import Lifecycle
from sagajobs.saga.executor import Executor
from sagajobs.saga.faultpoints import Point, Work, reached
from sagajobs.saga.noting import note
from sagajobs.saga.policy import Failure, passes_by_itself
from sagajobs.saga.records import SagaRecord, StepRecord
from sagajobs.saga.settle import Settle
from sagajobs.saga.states import FORWARD, SagaState, StepState
from sagajobs.saga.store import Event, Review, StepWrite, Store, Written
from sagajobs.saga.sweeps import statements

IN_REVIEW = SagaState.MANUAL_REVIEW_REQUIRED


@dataclass(frozen=True, slots=True)
class Case:
    """An open review case: its number, its saga, the step in question if there is one, the saga's state before."""

    id: int
    saga_id: str
    step: str | None
    was: SagaState


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look came to.

    Attributes:
        settled: the case is closed and the saga goes on.
        counted: it was a look; one that was not let through to the other side counts for nothing.
        again_in: seconds until the next look, None for the usual.
    """

    settled: bool = False
    counted: bool = True
    again_in: float | None = None


_NOTHING_TO_SEE = Seen(counted=False, again_in=3600.0)
"""No look tells anything about such a case; the answer may have changed with the code, so it is asked now and then."""


def examine(executor: Executor, kind: type[Saga], case: Case) -> Seen:
    """Look at what a case is about, if a look can tell anything.

    Raises:
        ClaimLost: a remedy, or a worker, was faster; nothing was written.
        DBAPIError: the database is away; nothing is lost.
    """
    with executor.database.reading() as connection:
        record = Store(connection).read(case.saga_id)
    if case.step is None or record.state is not IN_REVIEW:
        return _NOTHING_TO_SEE
    kind = kind.of(record)
    kind.definition.check(record)
    step, heading = kind.definition.step(case.step), _heading(case, record, kind)
    if step.finder is None or heading is None:
        return _NOTHING_TO_SEE
    saga = kind.restore(case.saga_id, record.input, record.results)
    wait = step.hold(saga) if step.hold is not None else 0.0
    if wait > 0:
        return Seen(counted=False, again_in=wait)
    state = record.steps[case.step].state
    row = _claim(executor, case, state, step)
    if row is None:
        return Seen(counted=False)
    reached(Point.AFTER_CLAIM, case.saga_id, step.name)
    examination = Examination(executor, kind, step, record, case)
    # What a look means depends on where the saga was going when the question came up.
    return examination.look(saga, replace(record, state=heading), row, step.finder)


def _heading(case: Case, record: SagaRecord, kind: type[Saga]) -> SagaState | None:
    """Return the direction in which the saga is to go on once the step is settled, None if a look could not help."""
    row = record.steps[case.step or ""]
    backward = case.was is SagaState.COMPENSATING
    if row.state is StepState.UNDO_FAILED:
        return SagaState.COMPENSATING
    if row.state is StepState.FAILED and backward:
        return None  # undoing asks nothing of a step that did not happen
    if row.state not in (StepState.RUNNING, StepState.UNKNOWN, StepState.FAILED):
        return None
    if backward:
        return SagaState.COMPENSATING
    beside = [
        kind.definition.step(name)
        for name in record.in_stage(row.stage)
        if name != row.name and record.steps[name].state is StepState.FAILED
    ]
    needed = [step for step in beside if not step.optional]
    if any(step.after_pivot or record.steps[step.name].in_doubt for step in needed):
        return None  # settling this one leaves the other to be asked about
    return SagaState.COMPENSATING if needed else SagaState.RUNNING


def _claim(executor: Executor, case: Case, state: StepState, step: Step) -> StepRecord | None:
    """Claim the step for a look; None if it is somebody else's, or not as it was."""
    with executor.database.engine.connect() as connection:
        look = Store(connection).look(case.saga_id, step.name)
        row = look.step
        if row is None or row.leased or row.state is not state or look.saga.state is not IN_REVIEW:
            return None
        Store(connection).write(
            case.saga_id,
            StepWrite(
                step=row,
                to=row.state,
                saga_from=frozenset(),  # the saga stays where it is
                saga_to=IN_REVIEW,
                stage=row.stage,
                next_in=None,
                events=[Event(event=Lifecycle.STEP_PROBED, step=row.name, detail={"case": case.id})],
                lease=step.lease,
                bump=True,
                owner=executor.owner,
                progress=False,
            ),
        )
        connection.commit()
        return claimed(row, row.state)


class _UnderReview(Act):
    """An act on a step of a saga that a person is asked about: what it writes takes the saga out of review."""

    def __init__(self, executor: Executor, kind: type[Saga], step: Step, saga: SagaRecord, case: Case) -> None:
        super().__init__(executor, kind, step, saga)
        self.case = case
        self.settled = False

    def leaving(self, saga: SagaRecord, saga_to: SagaState) -> frozenset[SagaState]:  # noqa: ARG002 - out of one only
        """Return the states in which the saga itself follows the step: wherever it goes, it goes there from review."""
        return frozenset({IN_REVIEW})

    def write(
        self,
        connection: Connection,
        saga: SagaRecord,
        row: StepRecord,
        to: StepState,
        event: Lifecycle,
        **changes: Any,
    ) -> Written:
        """Write what was seen and close the case, or put on it what is asked now; step, saga, case, in this order."""
        if changes.get("saga_to") is SagaState.PARTIAL:
            changes["saga_to"] = SagaState.RUNNING  # the way out of review; the next slow try says it again
        asked: Review | None = changes.pop("review", None)
        self.relock(connection, row)
        if connection.execute(statements.STILL_ASKED, {"id": self.saga_id}).first() is None:
            raise ClaimLost(f"saga {self.saga_id}: nobody is asked about it any more")
        # Read anew under the lock of the saga's row: one beside it may have failed while the look lasted.
        if _heading(self.case, Store(connection).read(self.saga_id), self.kind) is not saga.state:
            raise ClaimLost(f"saga {self.saga_id} does not go where it would have gone when the look began")
        written = super().write(connection, saga, row, to, event, **changes)
        self._asks = asked is not None
        if written.saga_state is IN_REVIEW:
            if asked is not None:
                anew = {"id": self.case.id, "reason": asked.reason, "evidence": json.dumps(asked.evidence)}
                connection.execute(statements.ASK_ANEW, anew)
            return written
        why = f"a look at step {row.name} found it {to}"
        forward = written.saga_state in (*FORWARD, SagaState.COMPLETED)
        closed = connection.execute(statements.CLOSE_CASE, {"id": self.case.id, "why": why, "forward": forward})
        if closed.first() is None:
            raise ClaimLost(f"review case {self.case.id} was closed by somebody else")
        restored = self.kind.restore(self.saga_id, saga.input, saga.results)
        note(self.database, connection, self.saga_id, partial(restored.note_settled, step=row.name))
        self.settled = True
        return written

    def let_go(self, row: StepRecord, *, absences: int | None = None) -> None:
        """End the claim of a look that settled nothing."""
        with self.database.engine.connect() as connection:
            Store(connection).write(
                self.saga_id,
                StepWrite(
                    step=row,
                    to=row.state,
                    saga_from=frozenset(),
                    saga_to=IN_REVIEW,
                    stage=row.stage,
                    next_in=None,
                    absences=absences,
                    progress=False,
                ),
            )
            connection.commit()


class Examination(_UnderReview, Settle):
    """A look at a step that may have happened, or that stands although it was to be undone."""

    again_in: float | None = None

    def look(self, saga: Saga, record: SagaRecord, row: StepRecord, finder: Probe) -> Seen:
        """Look with no transaction open, and record what was seen."""
        try:
            found = self.carry_out(Work.PROBE, finder.look, saga, self.key, attempt=row.probes)
        except EffectGone as error:
            self._taken_back(saga, record, row, error)
            return self._seen()
        except Exception as error:  # noqa: BLE001 - whatever a probe raises, it could not tell
            return self._could_not_tell(row, finder, error)
        reached(Point.AFTER_CALL, self.saga_id, self.step.name)
        if row.state is StepState.UNDO_FAILED:
            self._still_there(saga, record, row, finder, found)
        elif found is not None:
            self.happened(saga, record, row, found)
        elif row.state is StepState.FAILED:
            self.let_go(row)  # as is known; whether to do without it is not for a look to say
        else:
            self._absent(record, row, finder)
        return self._seen()

    def _seen(self) -> Seen:
        return Seen(settled=self.settled, again_in=self.again_in)

    def _taken_back(self, saga: Saga, record: SagaRecord, row: StepRecord, error: EffectGone) -> None:
        if row.state is StepState.UNDO_FAILED:
            self._gone_at_last(saga, record, row, {"probe": "taken back by somebody else", "seen": str(error)})
        elif row.state is StepState.FAILED:
            self.let_go(row)
        else:
            self._gone(record, row, error)

    def _still_there(self, saga: Saga, record: SagaRecord, row: StepRecord, finder: Probe, found: Any) -> None:
        """Take an undo that failed for done once the effect is gone: not at the first look, for replicas lag."""
        if found is not None:
            self.let_go(row, absences=0)
            return
        absences = row.absences + 1
        if absences < finder.looks or row.absent_for < finder.over:
            self.again_in = finder.interval
            self.let_go(row, absences=absences)
            return
        self._gone_at_last(saga, record, row, {"probe": "not there", "looks": absences})

    def _gone_at_last(self, saga: Saga, record: SagaRecord, row: StepRecord, receipt: Mapping[str, Any]) -> None:
        if self.step.undo is None:
            raise AssertionError(f"step {self.step.name} has no undo, and it failed")
        unwinding = Unwinding(self.executor, self.kind, self.step, record, self.case)
        unwinding.take_note(saga, record, row, self.step.undo, receipt)
        self.settled = unwinding.settled

    def _could_not_tell(self, row: StepRecord, finder: Probe, error: Exception) -> Seen:
        self.let_go(row)
        if finder.retry.classify(error, external=True) not in (Failure.TRANSIENT, Failure.DEFERRED):
            return Seen()
        asked = error.retry_after if isinstance(error, TransientError) else None
        if asked is None and isinstance(error, Deferred):
            asked = finder.retry.deferral
        return Seen(counted=False, again_in=asked)

    def _look_again(
        self,
        connection: Connection,  # noqa: ARG002 - likewise; the saga is not changed, nor its history
        record: SagaRecord,  # noqa: ARG002 - likewise
        row: StepRecord,
        delay: float,
        *,
        detail: str = "nothing there",  # noqa: ARG002 - likewise
        **changes: Any,
    ) -> Outcome:
        """Leave it open after a look that saw nothing, and look again as soon as another one means something."""
        self.again_in = delay
        self.let_go(row, absences=changes.get("absences"))
        return Outcome(Verdict.LATER, delay)


class Unwinding(_UnderReview, Backward):
    """The record of an undo that had failed and whose step is seen not to stand any more."""

    def take_note(
        self, saga: Saga, record: SagaRecord, row: StepRecord, undo: Undo, receipt: Mapping[str, Any]
    ) -> None:
        """Record the undo with what was seen as its receipt, and with its own local writes."""
        with self.database.engine.connect() as connection:
            if undo.note is not None:
                try:
                    with self.database.session(connection) as db:
                        undo.note(saga, db, receipt, *self.step.items)
                except Exception as error:
                    connection.rollback()
                    if passes_by_itself(error):
                        raise
                    self.let_go(row)  # undone outside, and not to be recorded here: still a question to a person
                    return
            self._undone(connection, saga, record, row, receipt, row.undo_attempts)
