"""What every act on a step shares: the write under the fence, the commit, the event that follows it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from sagajobs.errors import ClaimLost
from sagajobs.saga.declaration import LEASE_MARGIN, Method, Step
from sagajobs.saga.definition import Saga
from sagajobs.saga.events import Lifecycle, emit
from sagajobs.saga.faultpoints import Point, Work, reached, work
from sagajobs.saga.locks import Successor, release_locks
from sagajobs.saga.noting import note
from sagajobs.saga.records import SagaRecord, StepRecord
from sagajobs.saga.states import ENDED, FORWARD, SagaState, StepState, sources
from sagajobs.saga.store import Event, Review, StepWrite, Store, Written, to_json
from sagajobs.saga.watching import Doing

if TYPE_CHECKING:
    from sagajobs.saga.executor import Executor

log = logging.getLogger(__name__)

HANDOVER = 0.5
"""Seconds of a counted local step's lease: enough to get from the commit that counts it to the lock of its row. Two
copies of one message that met in between would count two attempts, where one is made. A worker that takes longer loses
no more than that: the fence lets one of them work."""


class Verdict(StrEnum):
    """How a delivery ends, for whoever delivered it."""

    CARRY_ON = "carry_on"
    """The step is over: the next one may run."""
    END = "end"
    """Nothing to do here (any more)."""
    LATER = "later"
    """To be tried again after `wait` seconds; the sweep will say so."""
    FAILED = "failed"
    """The saga has turned round: compensate."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a delivery came to.

    Attributes:
        verdict: see `Verdict`.
        wait: seconds until another look makes sense.
        cause: the exception behind a failure, for a caller in the same process.
        following: names of the steps to be hinted at, where several may run side by side next.
    """

    verdict: Verdict
    wait: float = 0.0
    cause: BaseException | None = None
    following: tuple[str, ...] = ()


_OVER = (StepState.DONE, StepState.SKIPPED, StepState.FAILED)

_ENDINGS = {
    SagaState.COMPLETED: Lifecycle.SAGA_COMPLETED,
    SagaState.COMPENSATED: Lifecycle.SAGA_COMPENSATED,
    SagaState.MANUAL_REVIEW_REQUIRED: Lifecycle.REVIEW_REQUIRED,
}
"""What is said, in the history and in the log, when a saga comes to rest."""


class Act:
    """One act on one step of one saga.

    Args:
        executor: whose connections and limits to use.
        kind: the saga's class.
        step: the step's declaration.
        saga: which saga, as it stood when the act was decided on.
    """

    def __init__(self, executor: Executor, kind: type[Saga], step: Step, saga: SagaRecord) -> None:
        self.executor = executor
        self.database = executor.database
        self.kind = kind
        self.step = step
        self.saga_id = saga.id
        self._trace = saga.trace
        self._successors: list[Successor] = []
        self._asks = False
        self._begin_by = math.inf

    @property
    def key(self) -> str:
        """What identifies this step's effect outside: in the call, to the probe, at every attempt."""
        return f"{self.saga_id}/{self.step.name}"

    def carry_out(self, what: Work, method: Method, *arguments: Any, attempt: int) -> Any:
        """Call the author's code for this step; returns what it returned, as it can be stored."""
        doing = Doing(
            what=what,
            saga=self.kind.name,
            saga_id=self.saga_id,
            step=self.step.name,
            attempt=attempt,
            trace=self._trace,
            foreseen=self.step.retry.foresees,
        )
        with self.executor.watchers.doing(doing):
            return to_json(work(what, self.saga_id, self.step.name, method, *arguments, *self.step.items))

    def write(
        self,
        connection: Connection,
        saga: SagaRecord,
        row: StepRecord,
        to: StepState,
        event: Lifecycle,
        *,
        saga_to: SagaState | None = None,
        detail: Mapping[str, Any] | None = None,
        review: Review | None = None,
        next_in: float | None = None,
        **changes: Any,
    ) -> Written:
        """Write one change of the step and, by default, what follows from it for a saga going forward.

        A step that is over moves the saga to the next stage, or to its end, if no other one of its stage is still
        open; `saga_to` says otherwise. While the saga is being undone, only the step changes, unless `saga_to` says
        otherwise.

        Raises:
            ClaimLost: somebody else owns the step by now.
        """
        undoing = saga.state is SagaState.COMPENSATING
        review = review and self._dated(saga, review)
        over = to in _OVER and not undoing and saga_to is None
        following = len(saga.in_stage(row.stage + 1))
        if saga_to is None:
            saga_to = SagaState.COMPENSATING if undoing else SagaState.RUNNING
        attempt = changes.get("undo_attempts") or changes.get("attempts") or row.attempts
        said = Event(event=event, step=self.step.name, attempt=attempt, detail=detail)
        ending = SagaState.COMPLETED if over and not following else saga_to
        store = Store(connection)
        written = store.write(
            self.saga_id,
            StepWrite(
                step=row,
                to=to,
                saga_from=self.leaving(saga, saga_to),
                saga_to=saga_to,
                stage=row.stage,
                over=over,
                next_open=following,
                joins=len(saga.in_stage(row.stage)) > 1,
                next_in=self.executor.stall_after if next_in is None else next_in,
                events=[said, *_ending(saga, ending, review)],
                owner=self.executor.owner,
                review=review,
                **changes,
            ),
        )
        self._successors = store.successors
        if to is StepState.WAITING:
            self._let_go(connection)
        self._asks = review is not None
        if self._asks:
            self._note_review(connection, saga, written)
        return written

    @property
    def lets_go(self) -> bool:
        """Whether the saga lets go of its locks while this step waits for its time (`Saga.lets_go`)."""
        return self.kind.lets_go and not self.step.after_pivot

    def _let_go(self, connection: Connection) -> None:
        """Let go of the saga's locks until the step's next attempt, if it does that; `commit` tells who has them now.

        After the step's row was locked, as everywhere.
        """
        if self.lets_go:
            self._successors += release_locks(connection, self.saga_id)

    def _note_review(self, connection: Connection, saga: SagaRecord, written: Written) -> None:
        # Paused in the same moment, it comes to that when it is resumed, and the case is open already.
        if written.saga_state in (SagaState.MANUAL_REVIEW_REQUIRED, SagaState.PAUSED):
            restored = self.kind.restore(self.saga_id, saga.input, saga.results)
            note(self.database, connection, self.saga_id, restored.note_review)

    def _dated(self, record: SagaRecord, review: Review) -> Review:
        """Return the question with the time by which it is urgent; it is asked whatever becomes of that."""
        saga = self.kind.restore(self.saga_id, record.input, record.results)
        try:
            return replace(review, urgent_at=saga.urgent_at())
        except Exception as error:  # noqa: BLE001 - the author's code must not keep a person from being asked
            log.critical("saga %s: it is not known how urgent it is: %s", self.saga_id, type(error).__name__)
            return review

    def claim(
        self,
        connection: Connection,
        saga: SagaRecord,
        row: StepRecord,
        to: StepState,
        event: Lifecycle,
        **changes: Any,
    ) -> None:
        """Write, under a new fence, that the step is this worker's from now on, as `write` does.

        Raises:
            ClaimLost: somebody else owns the step by now, or the saga was paused or turned round since it was looked
                at: nothing may begin.
        """
        self._begin_by = time.monotonic() + LEASE_MARGIN
        written = self.write(connection, saga, row, to, event, bump=True, **changes)
        if written.saga_state not in ({SagaState.COMPENSATING} if saga.state is SagaState.COMPENSATING else FORWARD):
            raise ClaimLost(f"saga {self.saga_id} is {written.saga_state} by now")

    def check_time(self) -> None:
        """Refuse to begin a call so long after the claim that the lease could end in the middle of it.

        A worker that was frozen in between would reach out after others have looked, seen nothing and tried again. It
        parks, and they settle the step as if it had died.

        Raises:
            ClaimLost: the time to begin is over.
        """
        if time.monotonic() > self._begin_by:
            raise ClaimLost(f"saga {self.saga_id}: step {self.step.name} was claimed too long ago to begin now")

    def leaving(self, saga: SagaRecord, saga_to: SagaState) -> frozenset[SagaState]:
        """Return the states in which the saga itself follows the step into `saga_to`."""
        return frozenset({SagaState.COMPENSATING}) if saga.state is SagaState.COMPENSATING else sources(saga_to)

    def record(
        self,
        connection: Connection,
        saga: SagaRecord,
        row: StepRecord,
        to: StepState,
        event: Lifecycle,
        *,
        said_attempt: int,
        **changes: Any,
    ) -> Written:
        """Write one change as `write` does, commit it, and say so; `said_attempt` is the log's number for the try."""
        written = self.write(connection, saga, row, to, event, **changes)
        self.commit(connection, event, said_attempt, written)
        return written

    def later(
        self,
        connection: Connection,
        saga: SagaRecord,
        row: StepRecord,
        to: StepState,
        event: Lifecycle,
        *,
        delay: float,
        cause: BaseException | None = None,
        **changes: Any,
    ) -> Outcome:
        """Write one change as `record` does; the step's next act waits so many seconds, and the sweep then hints."""
        self.record(connection, saga, row, to, event, delay=delay, next_in=delay, **changes)
        return Outcome(Verdict.LATER, delay, cause)

    def committed(self, connection: Connection) -> None:
        """Commit a claim, and give the connection back before the work begins.

        The work's result needs one of its own. Many threads that each hold one meanwhile and ask for a second would
        use up the pool and wait for each other.
        """
        connection.commit()
        connection.close()

    def relock(self, connection: Connection, row: StepRecord) -> None:
        """Lock the step's row for the work of a local step that was counted first.

        The lock, not a lease (`HANDOVER` is over before most work is), says that somebody is at work: it ends with its
        holder, so that the next delivery need not wait; and what two workers at once would write, the fence lets only
        one of them write.

        Raises:
            ClaimLost: between the two transactions somebody else has claimed the step.
        """
        held = Store(connection).look(self.saga_id, self.step.name).step
        if held is None or held.fence != row.fence:
            raise ClaimLost(f"saga {self.saga_id}: step {self.step.name} is somebody else's by now")

    def commit(self, connection: Connection, said: Lifecycle, attempt: int, written: Written) -> None:
        """Commit, then tell the log what has become true."""
        reached(Point.BEFORE_COMMIT, self.saga_id, self.step.name)
        connection.commit()
        reached(Point.AFTER_COMMIT, self.saga_id, self.step.name)
        self.say(said, attempt)
        self.executor.tell(self._successors)
        # Of a saga that waits for a person already, nobody is called once more because another step came back.
        if written.saga_state in ENDED or (written.saga_state is SagaState.MANUAL_REVIEW_REQUIRED and self._asks):
            asked_about = self.step.name if written.saga_state is SagaState.MANUAL_REVIEW_REQUIRED else None
            self._emit(_ENDINGS[written.saga_state], asked_about)

    def went_on(self, saga: SagaRecord, row: StepRecord, written: Written) -> Outcome:
        """Return how the delivery ends after the step was over: the last one of its stage carries the saga on."""
        if written.saga_state is SagaState.COMPLETED:
            return Outcome(Verdict.CARRY_ON)
        if written.saga_state not in FORWARD or written.stage == row.stage:
            return Outcome(Verdict.END)
        return Outcome(Verdict.CARRY_ON, following=self.kind.definition.following(saga, row.stage))

    def hold(self, connection: Connection, saga: Saga, record: SagaRecord, row: StepRecord) -> Outcome | None:
        """Put the step off if it makes no sense to act outside now; None: go ahead.

        Asked before anything is claimed: however long the other side is away, it costs no attempt and no history.
        """
        return self.put_off(connection, record, row, self.step.hold(saga) if self.step.hold is not None else 0.0)

    def put_off(self, connection: Connection, record: SagaRecord, row: StepRecord, wait: float) -> Outcome | None:
        """Put the step off by so many seconds, and commit; None, for 0 seconds: go ahead."""
        if wait <= 0:
            return None
        self._let_go(connection)
        return self.postpone(connection, record, row, delay=wait, next_in=wait)

    def postpone(
        self, connection: Connection, record: SagaRecord, row: StepRecord, *, delay: float | None, next_in: float
    ) -> Outcome:
        """Put the step off, and commit; see `Store.postpone`."""
        joins = len(record.in_stage(row.stage)) > 1
        Store(connection).postpone(self.saga_id, row, delay=delay, next_in=next_in, joins=joins)
        connection.commit()
        self.executor.tell(self._successors)
        return Outcome(Verdict.LATER, next_in if delay is None else delay)

    def said_of(self, error: Mapping[str, Any], kind: str, delay: float) -> dict[str, Any]:
        """Return what goes into the history with a retry: what a prediction of the next one could learn from."""
        return {"error": error["class"], "kind": kind, "delay": round(delay, 3), **self.kind.conditions()}

    def say(self, event: Lifecycle, attempt: int | None = None) -> None:
        """Write a lifecycle event of this step to the log."""
        self._emit(event, self.step.name, attempt)

    def _emit(self, event: Lifecycle, step: str | None, attempt: int | None = None) -> None:
        emit(event, saga=self.kind.name, saga_id=self.saga_id, step=step, attempt=attempt, trace=self._trace)


def _ending(saga: SagaRecord, ending: SagaState, review: Review | None) -> list[Event]:
    """Return what the history says besides, should the saga come to rest in this state by the write."""
    if ending not in _ENDINGS or ending is saga.state:
        return []
    reason = {"reason": review.reason} if review else None
    return [Event(event=_ENDINGS[ending], detail=reason, only_if=ending)]


def claimed(row: StepRecord, state: StepState, **changes: Any) -> StepRecord:
    """Return the row as it stands after a claim: the fence is one higher, and it is ours."""
    return replace(row, state=state, fence=row.fence + 1, **changes)
