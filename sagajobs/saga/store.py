"""The store: the engine's statements as functions over one connection. It never commits; its callers do."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from sagajobs.errors import ClaimLost, SagaNotFound
from sagajobs.saga import statements
from sagajobs.saga.locks import Successor, release_locks, take_turns
from sagajobs.saga.records import Look, SagaRecord, StepRecord, saga_record, step_record
from sagajobs.saga.states import ENDED, UNFINISHED, SagaState, StepState, check_saga, check_step

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL as JSON writes it: after an even number of backslashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of a saga's history.

    Attributes:
        event: the lifecycle event's name.
        only_if: it is written only if this is the saga's state after the write that it belongs to.
    """

    event: str
    step: str | None = None
    attempt: int | None = None
    detail: Mapping[str, Any] | None = None
    only_if: SagaState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A question to a person: why no program can go on, what it saw, and when it is urgent, if the saga says so."""

    reason: str
    evidence: Mapping[str, Any]
    urgent_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWrite:
    """One fenced change of a step together with its saga's.

    Attributes:
        step: the step as locked, or as claimed.
        to: its new state.
        saga_from: states in which the saga itself follows; elsewhere only the step changes.
        saga_to: the saga's new state, if it does not end with this step.
        stage: the step's own stage.
        over: the step needs no more work going forward.
        next_open: steps of the stage after it, 0 if there is none.
        joins: others run beside it.
        next_in: seconds until the sweep should look, None where the saga comes to rest.
        lease: seconds for which the step is this worker's, None to let go of it.
        delay: seconds before which it must not be tried again.
        bump: raise the fence: whoever held the step before can no longer write.
        finished: the step is done: stamp the time.
        progress: forget how many hints it took.
    """

    step: StepRecord
    to: StepState
    saga_from: frozenset[SagaState]
    saga_to: SagaState
    stage: int
    next_in: float | None
    over: bool = False
    next_open: int = 0
    joins: bool = False
    events: Sequence[Event] = ()
    attempts: int | None = None
    undo_attempts: int | None = None
    probes: int | None = None
    absences: int | None = None
    lease: float | None = None
    delay: float | None = None
    bump: bool = False
    owner: str | None = None
    output: Any = None
    error: Mapping[str, Any] | None = None
    forget_error: bool = False
    receipt: Any = None
    finished: bool = False
    saga_error: Mapping[str, Any] | None = None
    progress: bool = True
    review: Review | None = None


class Written(NamedTuple):
    """What a write came to.

    Attributes:
        saga_state: the saga's state after it, which is not always the one asked for.
        stage: the saga's stage after it.
        fence: the step's fence after it.
    """

    saga_state: SagaState
    stage: int
    fence: int


class Store:
    """The engine's statements over one connection.

    Attributes:
        successors: sagas that were handed a lock, as its holder has ended; to be told after the commit.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.successors: list[Successor] = []

    def start(
        self,
        *,
        saga_id: str,
        name: str,
        version: int,
        definition: str,
        kind: str,
        input_: Any,
        idempotency_key: str | None,
        useful_until: datetime | None,
        trace: str | None,
        stall_after: float,
        steps: Sequence[Mapping[str, Any]],
    ) -> bool:
        """Insert a saga with its steps; False if the idempotency key is taken."""
        row = self._connection.execute(
            statements.START,
            {
                "id": saga_id,
                "name": name,
                "version": version,
                "definition": definition,
                "kind": kind,
                "input": json.dumps(input_),
                "idempotency_key": idempotency_key,
                "useful_until": useful_until,
                "trace": trace,
                "stall_after": stall_after,
                "open_steps": sum(step["stage"] == 0 for step in steps),
                "steps": json.dumps(list(steps)),
            },
        ).first()
        return row is not None

    def same_start(self, name: str, idempotency_key: str, input_: Any) -> tuple[str, bool] | None:
        """Return the id of the saga with that key, and whether its input is the same."""
        row = self._connection.execute(
            statements.SAME_START,
            {"name": name, "idempotency_key": idempotency_key, "input": json.dumps(input_)},
        ).first()
        return None if row is None else (str(row.id), bool(row.same))

    def read(self, saga_id: str) -> SagaRecord:
        """Return a saga; raises `SagaNotFound`."""
        _check_id(saga_id)
        row = self._connection.execute(statements.READ, {"id": saga_id}).mappings().first()
        if row is None:
            raise SagaNotFound(f"there is no saga {saga_id} in this database")
        return saga_record(row)

    def read_all(self, saga_ids: Sequence[str]) -> dict[str, SagaRecord]:
        """Return, by id, those of some sagas that exist."""
        rows = self._connection.execute(statements.READ_ALL, {"ids": list(saga_ids)}).mappings()
        return {record.id: record for record in map(saga_record, rows)}

    def status(self, saga_id: str) -> SagaState:
        """Return a saga's state; raises `SagaNotFound`."""
        _check_id(saga_id)
        row = self._connection.execute(statements.STATUS, {"id": saga_id}).first()
        if row is None:
            raise SagaNotFound(f"there is no saga {saga_id} in this database")
        return SagaState(row.state)

    def look(self, saga_id: str, step: str) -> Look:
        """Return a saga and lock one of its steps; raises `SagaNotFound`."""
        _check_id(saga_id)
        row = statements.LOOK.execute(self._connection, {"id": saga_id, "step": step}).mappings().first()
        if row is None:
            raise SagaNotFound(f"there is no saga {saga_id} in this database")
        return Look(saga_record(row), step_record(row))

    def write(self, saga_id: str, write: StepWrite) -> Written:
        """Change a step, and its saga, under the fence.

        Raises:
            ClaimLost: the fence moved on, or the step is in another state by now; nothing was written.
            IllegalTransition: a mistake in the engine.
        """
        step = write.step
        check_step(step.state, write.to)
        for old in write.saga_from:
            check_saga(old, write.saga_to)
            if write.over and not write.next_open:
                check_saga(old, SagaState.COMPLETED)
        row = statements.WRITE.execute(
            self._connection,
            {
                "id": saga_id,
                "step": step.name,
                "fence": step.fence,
                "was": step.state,
                "to": write.to,
                "attempts": step.attempts if write.attempts is None else write.attempts,
                "undo_attempts": step.undo_attempts if write.undo_attempts is None else write.undo_attempts,
                "probes": step.probes if write.probes is None else write.probes,
                "absences": step.absences if write.absences is None else write.absences,
                "bump": int(write.bump),
                "owner": write.owner,
                "lease": write.lease,
                "delay": write.delay,
                "output": _json(write.output),
                "error": _json(write.error),
                "forget": write.forget_error,
                "receipt": _json(write.receipt),
                "finished": write.finished,
                "only_from": [str(state) for state in write.saga_from],
                "saga_to": write.saga_to,
                "stage": write.stage,
                "over": write.over,
                "next_open": write.next_open,
                # At rest it is due never, not when one of those beside it would have been.
                "joins": write.joins and write.saga_to in UNFINISHED,
                "saga_error": _json(write.saga_error),
                "progress": write.progress,
                "next_in": write.next_in if write.saga_to in UNFINISHED else None,
                "ends": write.saga_to in ENDED,
                "events": json.dumps([_event(event) for event in write.events]),
                "review": _review(write.review),
            },
        ).first()
        if row is None:
            raise ClaimLost(f"saga {saga_id}: step {step.name} is somebody else's by now")
        state = SagaState(row.state)
        if row.locking and state in ENDED:
            self.successors += release_locks(self._connection, saga_id)
        return Written(state, row.stage, row.fence)

    def postpone(self, saga_id: str, step: StepRecord, *, delay: float | None, next_in: float, joins: bool) -> None:
        """Put a step off without trying it.

        Args:
            saga_id: of which saga.
            step: the step, locked.
            delay: seconds before which it must not be tried, None if it may at any time.
            next_in: seconds until the sweep should look.
            joins: others run beside it.
        """
        self._connection.execute(
            statements.POSTPONE,
            {
                "id": saga_id,
                "step": step.name,
                "fence": step.fence,
                "was": step.state,
                "delay": delay,
                "next_in": next_in,
                "joins": joins,
            },
        )

    def turn(
        self,
        saga_id: str,
        was: SagaState,
        to: SagaState,
        event: str,
        *,
        next_in: float | None = 0.0,
        detail: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        review: Review | None = None,
    ) -> bool:
        """Change a saga's state where no step changes; False if it was not in `was` any more."""
        check_saga(was, to)
        if to in ENDED:
            take_turns(self._connection, saga_id)
        row = self._connection.execute(
            statements.TURN,
            {
                "id": saga_id,
                "was": was,
                "to": to,
                "event": event,
                "next_in": next_in if to in UNFINISHED else None,
                "ends": to in ENDED,
                "detail": _json(detail),
                "saga_error": _json(error),
                "review": _review(review),
            },
        ).first()
        if row is not None and to in ENDED:
            self.successors += release_locks(self._connection, saga_id)
        return row is not None


def _check_id(saga_id: str) -> None:
    try:
        uuid.UUID(saga_id)
    except ValueError:
        raise SagaNotFound("there is no such saga: the id is no UUID") from None


def describe_error(error: BaseException, step: str | None, attempt: int, kind: str) -> dict[str, Any]:
    """Return an exception as it goes on record. It may quote a customer, so it stays in the database (SPEC G7)."""
    return {
        "step": step,
        "class": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": storable(_text(error)[:2000]),
        "kind": kind,
        "attempt": attempt,
    }


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as bad:  # noqa: BLE001 - an exception that cannot say what it is must not hide that a step failed
        return f"({type(bad).__name__} while its message was read)"


def storable(text: str) -> str:
    """Return `text` without what PostgreSQL does not store: NUL characters and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def to_json(value: Any) -> Any:
    """Return `value` if it is JSON that PostgreSQL stores: a result is read by other processes, later.

    Raises:
        TypeError, ValueError: it is not. Found here, it is a failure of the step; found by the commit that is to
            record the step, nothing could be recorded at all.
    """
    written = json.dumps(value, allow_nan=False, ensure_ascii=False)
    try:
        written.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text in it has half of a surrogate pair, which PostgreSQL does not store") from None
    if _NUL.search(written):
        raise ValueError("a text in it has a NUL character, which PostgreSQL does not store")
    return value


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _event(event: Event) -> dict[str, Any]:
    return {
        "event": event.event,
        "step": event.step,
        "attempt": event.attempt,
        "detail": event.detail,
        "only_if": event.only_if,
    }


def _review(review: Review | None) -> str | None:
    if review is None:
        return None
    urgent_at = None if review.urgent_at is None else review.urgent_at.isoformat()
    return json.dumps({"reason": review.reason, "evidence": dict(review.evidence), "urgent_at": urgent_at})
