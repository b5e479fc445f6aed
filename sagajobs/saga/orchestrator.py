"""`SagaOrchestrator` by itself: steps and undos as plain functions, in process, with progress in the same table.

For code that is not (yet) a declared saga. What it does and undoes are functions of this process, so nobody else can
finish it: if the process dies, the sweep opens a review case that lists what had been done.
"""

from __future__ import annotations

import inspect
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sagajobs.errors import AmbiguousError, ClaimLost, SagaCompensationException, SagaException
from sagajobs.saga import statements
from sagajobs.saga.engine import Engine
from sagajobs.saga.events import Lifecycle, emit
from sagajobs.saga.faultpoints import Work
from sagajobs.saga.handle import default_engine
from sagajobs.saga.policy import Failure, RetryPolicy
from sagajobs.saga.records import StepRecord
from sagajobs.saga.states import FORWARD, SagaState, StepState, sources
from sagajobs.saga.store import Event, Review, StepWrite, Store, describe_error, storable, to_json
from sagajobs.saga.watching import Doing

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = 300.0
"""Seconds that a step of an orchestrated saga may take before its process counts as gone."""

UNDO_RETRY = RetryPolicy(max_attempts=3, base=0.2, max_delay=2.0)
"""An undo in process is tried three times within a second or so: the caller is waiting."""


@dataclass(slots=True)
class _Done:
    row: StepRecord
    result: Any
    compensation: Callable[..., Any] | None


class SagaOrchestrator:
    """Runs steps one by one, remembers how to undo them, and undoes them newest first when one fails.

    Args:
        operation: what this is, as the saga's name in the table.
        engine: None for the application's own.
        context: JSON that goes on record as the saga's input.
        patience: seconds, see `PATIENCE`.
        undo_retry: how often an undo is tried before a person is asked.

    Attributes:
        id: the saga's id, for tracing.
        completed_steps: names of the steps done so far.
    """

    def __init__(
        self,
        operation: str,
        *,
        engine: Engine | None = None,
        context: Mapping[str, Any] | None = None,
        patience: float = PATIENCE,
        undo_retry: RetryPolicy = UNDO_RETRY,
    ) -> None:
        self.operation = operation
        self.id = str(uuid.uuid4())
        engine = engine or default_engine()
        self._database, self._owner, self._watchers = engine.database, engine.executor.owner, engine.watchers
        self._trace: str | None = None
        self._patience = patience
        self._undo_retry = undo_retry
        self._done: list[_Done] = []
        self._stage = 0
        self._failed_step: str | None = None
        self._names: set[str] = set()
        with self._watched("start") as self._trace, self._database.transaction() as connection:
            Store(connection).start(
                saga_id=self.id,
                name=operation,
                version=1,
                definition="orchestrated",
                kind="orchestrated",
                input_=dict(context or {}),
                idempotency_key=None,
                useful_until=None,
                trace=self._trace,
                stall_after=patience,
                steps=(),
            )
        self._say(Lifecycle.SAGA_CREATED)

    @property
    def completed_steps(self) -> tuple[str, ...]:
        """Names of the steps done so far, in order."""
        return tuple(done.row.name for done in self._done)

    def execute_step(self, name: str, action: Callable[[], T], compensation: Callable[..., Any] | None = None) -> T:
        """Run a step and remember how to undo it.

        Args:
            name: of the step, unique within the saga.
            action: does it.
            compensation: undoes it; called with the action's result, or with nothing if it takes nothing. A failing
                action whose outcome is unknown (`AmbiguousError`) is undone too, with None for a result.

        Raises:
            SagaException: the action failed, and everything done so far was undone; chained to the action's exception.
                Likewise for a name that was used before, whose action is not run.
            SagaCompensationException: likewise, and an undo failed.
        """
        self._refuse_repetition(name)
        row = self._begin(name)
        try:
            with self._watched(Work.STEP, name):
                result = action()
        except Exception as error:
            self._failed(row, error, turns=True)
            if isinstance(error, AmbiguousError) and compensation is not None:
                self._done.append(_Done(replace(row, state=StepState.FAILED), None, compensation))
            self._undo_all(cause=error)
            raise SagaException(
                f"saga {self.operation} ({self.id}) failed at step {name} and was undone",
                saga_id=self.id,
                failed_step=name,
                completed_steps=self.completed_steps,
            ) from error
        self._succeeded(row, result, compensation)
        return result

    def execute_optional_step(
        self,
        name: str,
        action: Callable[[], T],
        compensation: Callable[..., Any] | None = None,
        *,
        required: bool = False,
    ) -> T | None:
        """Run a step whose failure does not fail the saga.

        Args:
            name: of the step.
            action: does it.
            compensation: called at once if the action fails (to mark something for retry, say), and as the step's undo
                if it succeeds and the saga fails later.
            required: true makes it an ordinary step.

        Returns:
            The action's result, None if it failed.

        Raises:
            SagaException: the name was used before; everything done so far was undone.
            SagaCompensationException: the action failed and so did its compensation; a person is asked.
        """
        if required:
            return self.execute_step(name, action, compensation)
        self._refuse_repetition(name)
        row = self._begin(name)
        try:
            with self._watched(Work.STEP, name):
                result = action()
        except Exception as error:  # noqa: BLE001 - recorded, and the saga goes on: that is what optional means
            self._failed(row, error, turns=False)
            if compensation is not None:
                self._degrade(name, compensation)
            return None
        self._succeeded(row, result, compensation)
        return result

    def complete(self) -> None:
        """End the saga well; raises `ClaimLost` if it is not this process's any more (it was taken for dead)."""
        with self._database.transaction() as connection:
            was = Store(connection).status(self.id)
            if was not in FORWARD or not Store(connection).turn(
                self.id, was, SagaState.COMPLETED, Lifecycle.SAGA_COMPLETED
            ):
                raise ClaimLost(f"saga {self.id} is {was} and cannot be completed")
        self._say(Lifecycle.SAGA_COMPLETED)

    def compensate(self) -> None:
        """Undo everything done so far, newest first, and end the saga.

        Raises:
            SagaCompensationException: an undo failed; the others were tried all the same.
        """
        with self._database.transaction() as connection:
            was = Store(connection).status(self.id)
            if was in FORWARD:
                Store(connection).turn(
                    self.id,
                    was,
                    SagaState.COMPENSATING,
                    Lifecycle.COMPENSATION_STARTED,
                    next_in=self._patience,
                )
        self._undo_all(cause=None)

    def _degrade(self, name: str, compensation: Callable[..., Any]) -> None:
        """Do what is to be done instead of an optional step that failed: if that fails too, a person must know."""
        self._say(Lifecycle.COMPENSATION_STARTED, name)
        try:
            _call(compensation, None)
        except Exception as error:
            self._say(Lifecycle.COMPENSATION_FAILED, name)
            failures = {name: f"{type(error).__name__}: {error}"}
            review = Review(reason="an optional step and what was to replace it failed", evidence={"failed": failures})
            with self._database.transaction() as connection:
                store = Store(connection)
                store.turn(
                    self.id,
                    SagaState.RUNNING,
                    SagaState.MANUAL_REVIEW_REQUIRED,
                    Lifecycle.REVIEW_REQUIRED,
                    review=review,
                )
            self._say(Lifecycle.REVIEW_REQUIRED)
            raise SagaCompensationException(
                f"saga {self.operation} ({self.id}): step {name} failed and so did its compensation",
                saga_id=self.id,
                failed_step=name,
                completed_steps=self.completed_steps,
                failed_compensations=failures,
            ) from error
        self._say(Lifecycle.COMPENSATION_COMPLETED, name)

    # --- records ---

    def _refuse_repetition(self, name: str) -> None:
        if name not in self._names:
            self._names.add(name)
            return
        self._failed_step = name
        self.compensate()
        raise SagaException(
            f"saga {self.operation} ({self.id}) has two steps called {name!r} and was undone: rename one",
            saga_id=self.id,
            failed_step=name,
            completed_steps=self.completed_steps,
        )

    def _begin(self, name: str) -> StepRecord:
        with self._database.transaction() as connection:
            row = connection.execute(
                statements.ADD_STEP,
                {
                    "id": self.id,
                    "step": name,
                    "owner": self._owner,
                    "next_in": self._patience,
                },
            ).first()
        if row is None:
            raise ClaimLost(f"saga {self.id} is over (or was taken for dead): step {name} was not begun")
        self._stage = row.stage
        self._say(Lifecycle.STEP_EXECUTING, name)
        return StepRecord(
            name=name,
            state=StepState.RUNNING,
            stage=row.stage - 1,
            attempts=1,
            undo_attempts=0,
            probes=0,
            absences=0,
            absent_for=0.0,
            landing=0.0,
            fence=1,
            output=None,
            error=None,
            leased=False,
            early=False,
            wait=0.0,
        )

    def _write(self, row: StepRecord, to: StepState, event: Lifecycle, *, saga_to: SagaState, **changes: Any) -> None:
        forward = to in (StepState.DONE, StepState.FAILED)
        with self._database.transaction() as connection:
            written = Store(connection).write(
                self.id,
                StepWrite(
                    step=row,
                    to=to,
                    saga_from=sources(saga_to) if forward else frozenset({SagaState.COMPENSATING}),
                    saga_to=saga_to,
                    stage=self._stage,
                    next_in=self._patience,
                    events=[Event(event=event, step=row.name, attempt=row.attempts)],
                    **changes,
                ),
            )
        if written.saga_state is not saga_to:
            log.error(
                "saga %s was taken for dead and is %s; step %s is on record",
                self.id,
                written.saga_state,
                row.name,
            )
        self._say(event, row.name)

    def _succeeded(self, row: StepRecord, result: Any, compensation: Callable[..., Any] | None) -> None:
        self._write(
            row,
            StepState.DONE,
            Lifecycle.STEP_COMPLETED,
            saga_to=SagaState.RUNNING,
            output=_recordable(result),
            finished=True,
        )
        self._done.append(_Done(replace(row, state=StepState.DONE), result, compensation))

    def _failed(self, row: StepRecord, error: Exception, *, turns: bool) -> None:
        described = describe_error(error, row.name, 1, Failure.PERMANENT)
        self._write(
            row,
            StepState.FAILED,
            Lifecycle.STEP_FAILED,
            saga_to=SagaState.COMPENSATING if turns else SagaState.RUNNING,
            error=described,
            saga_error=described if turns else None,
        )
        if turns:
            self._failed_step = row.name

    # --- undo ---

    def _undo_all(self, cause: BaseException | None) -> None:
        failures: dict[str, str] = {}
        for done in reversed(self._done):
            if done.compensation is not None:
                error = self._undo(done, done.compensation)
                if error is not None:
                    failures[done.row.name] = storable(f"{type(error).__name__}: {error}")
        review = Review(reason="an undo failed", evidence={"failed": failures}) if failures else None
        to = SagaState.MANUAL_REVIEW_REQUIRED if failures else SagaState.COMPENSATED
        said = Lifecycle.REVIEW_REQUIRED if failures else Lifecycle.SAGA_COMPENSATED
        with self._database.transaction() as connection:
            Store(connection).turn(self.id, SagaState.COMPENSATING, to, said, review=review)
        self._say(said)
        if failures:
            raise SagaCompensationException(
                f"saga {self.operation} ({self.id}) failed and could not be undone whole: {', '.join(failures)}",
                saga_id=self.id,
                failed_step=self._failed_step,
                completed_steps=self.completed_steps,
                failed_compensations=failures,
            ) from cause

    def _undo(self, done: _Done, compensation: Callable[..., Any]) -> Exception | None:
        self._write(done.row, StepState.UNDOING, Lifecycle.COMPENSATION_STARTED, saga_to=SagaState.COMPENSATING)
        row = replace(done.row, state=StepState.UNDOING)
        failure: Exception | None = None
        for attempt in range(1, self._undo_retry.max_attempts + 1):
            try:
                with self._watched(Work.UNDO, row.name, attempt):
                    receipt = _call(compensation, done.result)
            except Exception as error:  # noqa: BLE001 - collected: the other undos are tried all the same
                failure = error
                if attempt < self._undo_retry.max_attempts:
                    threading.Event().wait(self._undo_retry.delay(attempt, error))
                continue
            self._write(
                row,
                StepState.UNDONE,
                Lifecycle.COMPENSATION_COMPLETED,
                saga_to=SagaState.COMPENSATING,
                undo_attempts=attempt,
                receipt=_recordable(receipt),
            )
            return None
        self._write(
            row,
            StepState.UNDO_FAILED,
            Lifecycle.COMPENSATION_FAILED,
            saga_to=SagaState.COMPENSATING,
            undo_attempts=self._undo_retry.max_attempts,
            error=failure and describe_error(failure, row.name, self._undo_retry.max_attempts, Failure.PERMANENT),
        )
        return failure

    def _say(self, event: Lifecycle, step: str | None = None) -> None:
        emit(event, saga=self.operation, saga_id=self.id, step=step, trace=self._trace)

    def _watched(self, what: str, step: str | None = None, attempt: int = 1) -> AbstractContextManager[str | None]:
        return self._watchers.doing(
            Doing(what=what, saga=self.operation, saga_id=self.id, step=step, attempt=attempt, trace=self._trace)
        )


def _call(compensation: Callable[..., Any], result: Any) -> Any:
    """Call an undo with the step's result, or with nothing if it takes nothing."""
    takes_nothing = not inspect.signature(compensation).parameters
    return compensation() if takes_nothing else compensation(result)


def _recordable(result: Any) -> Any:
    """Return a result for the record if it is JSON; functions of this process may pass anything among themselves."""
    try:
        return to_json(result)
    except (TypeError, ValueError):
        return None
