"""The executor: takes a delivery (step forward, or compensate), asks the plan, has it carried out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from sagajobs.errors import ClaimLost, SagaNotFound
from sagajobs.saga import plan
from sagajobs.saga.act import Outcome, Verdict
from sagajobs.saga.backward import Backward, needs_undo
from sagajobs.saga.database import Database
from sagajobs.saga.declaration import Step
from sagajobs.saga.definition import Saga
from sagajobs.saga.events import Lifecycle, emit
from sagajobs.saga.faultpoints import Point, reached
from sagajobs.saga.locks import Successor
from sagajobs.saga.policy import Failure, passes_by_itself
from sagajobs.saga.records import SagaRecord, StepRecord
from sagajobs.saga.settle import Settle
from sagajobs.saga.states import UNFINISHED, SagaState, StepState
from sagajobs.saga.store import Review, Store, describe_error
from sagajobs.saga.watching import Watchers

DEFAULT_STALL_AFTER = 15.0
"""Seconds without progress after which the sweep re-sends a saga's hint."""

ENOUGH_HINTS = 6
"""Hints without progress, backing off to some eight minutes in all, after which an error of ours is no passing one."""

UNDO_BUDGET = 60.0
"""Seconds after which one delivery of `compensate` begins no further undo and leaves the rest to the next."""


class Executor:
    """Carries out steps and undos against the table.

    Args:
        database: the engine's connections.
        stall_after: seconds, see `DEFAULT_STALL_AFTER`.
        tell: called after a commit with the sagas that were handed a lock by it.
        watchers: who looks on.
    """

    def __init__(
        self,
        database: Database,
        *,
        stall_after: float = DEFAULT_STALL_AFTER,
        tell: Callable[[Sequence[Successor]], None] = lambda _successors: None,
        watchers: Watchers | None = None,
    ) -> None:
        self.database = database
        self.stall_after = stall_after
        self.tell = tell
        self.watchers = watchers or Watchers()

    @property
    def owner(self) -> str:
        """Name of this process, as it goes on record with a claim."""
        return self.database.presence.name

    def forward(self, kind: type[Saga], step: Step, saga_id: str, *, redelivered: bool = False) -> Outcome:
        """Carry out one delivery of a step.

        Args:
            kind: the saga's class.
            step: the step that the message names.
            saga_id: which saga.
            redelivered: the broker says that this message was given out before.

        Raises:
            SagaNotFound: no such saga.
            DBAPIError: the database is away; nothing is lost, the table stands as it was.
            Exception: the code cannot take the saga up (its input, its definition); so often, and a person is asked.
        """
        reached(Point.BEFORE_CLAIM, saga_id, step.name)
        try:
            return self._deliver(kind, step, saga_id, redelivered=redelivered)
        except ClaimLost:
            # The fence moved on while we worked: whoever owns the step now answers for it. Park.
            return Outcome(Verdict.END)
        except Exception as error:
            if not self._hopeless(kind, saga_id, error):
                raise
            return Outcome(Verdict.END, cause=error)

    def _deliver(self, kind: type[Saga], step: Step, saga_id: str, *, redelivered: bool) -> Outcome:
        with self.database.engine.connect() as connection:
            look = Store(connection).look(saga_id, step.name)
            asked, kind = kind, kind.of(look.saga)
            kind.definition.check(look.saga)
            if kind is not asked:
                if step.name not in look.saga.steps:
                    return Outcome(Verdict.END)  # from the chain of a version that this saga is not of
                step = kind.definition.step(step.name)
            act = Settle(self, kind, step, look.saga)
            todo = plan.forward(look, step, redelivered=redelivered)
            if todo.do is plan.Do.CARRY_ON:
                return Outcome(Verdict.CARRY_ON, following=kind.definition.following(look.saga, step.stage))
            if todo.do is plan.Do.FAIL_AGAIN:
                return Outcome(Verdict.FAILED)
            if todo.do is plan.Do.NOTHING or look.step is None:
                return Outcome(Verdict.END, todo.wait)
            if todo.do is plan.Do.SETTLE:
                return act.settle(connection, look.saga, look.step)
            return act.begin(connection, look, look.step, todo)

    def compensate(self, kind: type[Saga], saga_id: str) -> Outcome:
        """Undo a saga as far as it goes now: to its end, to a retry that must wait, or to a person.

        Raises:
            SagaNotFound: no such saga.
            DBAPIError: the database is away; nothing is lost.
        """
        began = time.monotonic()
        while True:
            try:
                outcome = self._undo_next(kind, saga_id)
            except ClaimLost:
                return Outcome(Verdict.END)
            except Exception as error:
                if not self._hopeless(kind, saga_id, error):
                    raise
                return Outcome(Verdict.END, cause=error)
            if outcome.verdict in (Verdict.END, Verdict.LATER):
                return outcome
            if time.monotonic() - began > UNDO_BUDGET:
                return Outcome(Verdict.LATER)

    def _undo_next(self, kind: type[Saga], saga_id: str) -> Outcome:
        with self.database.reading() as connection:
            record = Store(connection).read(saga_id)
        if record.state is not SagaState.COMPENSATING:
            return Outcome(Verdict.END)
        kind = kind.of(record)
        kind.definition.check(record)
        saga = kind.restore(saga_id, record.input, record.results)
        step = plan.next_undo(record, kind.definition, lambda step: needs_undo(saga, step))
        if step is None:
            return self._all_undone(kind, record)
        reached(Point.BEFORE_CLAIM, saga_id, step.name)
        with self.database.engine.connect() as connection:
            look = Store(connection).look(saga_id, step.name)
            row = look.step
            if row is None or look.saga.state is not SagaState.COMPENSATING:
                return Outcome(Verdict.END)
            if row.leased or row.early:
                return Outcome(Verdict.LATER, row.wait)
            if row.state is not record.steps[step.name].state:
                return Outcome(Verdict.CARRY_ON)  # it moved between the two looks: look again
            return self._turn_to(connection, kind, step, look.saga, row)

    def _turn_to(
        self, connection: Connection, kind: type[Saga], step: Step, record: SagaRecord, row: StepRecord
    ) -> Outcome:
        if row.state in (StepState.WAITING, StepState.RUNNING, StepState.UNKNOWN):
            settle = Settle(self, kind, step, record)
            if step.external:
                return settle.settle(connection, record, row)
            # A local step that was counted and then died: its transaction was rolled back, nothing happened.
            died = {"step": step.name, "class": "WorkerDied", "message": "rolled back with its worker"}
            return settle.fail(connection, record, row, died)
        if step.undo is None:
            raise AssertionError(f"step {step.name} has no undo, and the plan named it")
        saga = kind.restore(record.id, record.input, record.results)
        return Backward(self, kind, step, record).undo(connection, saga, record, row, step.undo)

    def _hopeless(self, kind: type[Saga], saga_id: str, error: Exception) -> bool:
        """Ask a person about a saga that the code, time and again, cannot even take up; tell whether one was asked.

        Not at once: an older worker may have met a newer saga while a deployment is under way. Never for a database
        that is away or busy: that passes, however often it is met.
        """
        if isinstance(error, SagaNotFound) or passes_by_itself(error):
            return False
        with self.database.transaction() as connection:
            record = Store(connection).read(saga_id)
            if record.hints < ENOUGH_HINTS or record.state not in UNFINISHED:
                return False
            turned = Store(connection).turn(
                saga_id,
                record.state,
                SagaState.MANUAL_REVIEW_REQUIRED,
                Lifecycle.REVIEW_REQUIRED,
                review=Review(
                    reason="the code cannot take it up",
                    evidence={"error": describe_error(error, record.at_work, 0, Failure.PERMANENT)},
                ),
            )
        if turned:
            emit(Lifecycle.REVIEW_REQUIRED, saga=kind.name, saga_id=saga_id, trace=record.trace)
        return turned

    def _all_undone(self, kind: type[Saga], record: SagaRecord) -> Outcome:
        with self.database.transaction() as connection:
            store = Store(connection)
            ended = store.turn(record.id, SagaState.COMPENSATING, SagaState.COMPENSATED, Lifecycle.SAGA_COMPENSATED)
        if ended:
            self.tell(store.successors)
            emit(Lifecycle.SAGA_COMPENSATED, saga=kind.name, saga_id=record.id, trace=record.trace)
        return Outcome(Verdict.END)
