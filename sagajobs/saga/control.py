"""Pausing, resuming and cancelling a saga that is under way.

These touch the saga's row only. A worker's claim is written under the saga's state, so that after the commit of a pause
or a cancel nothing begins any more; what had begun by then is recorded, as it happened, and what it would have come to
is kept for the resume (`sagas.paused_from`) or undone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from sagajobs.errors import RemedyRefused
from sagajobs.saga.audit import put_on_record
from sagajobs.saga.declaration import Step
from sagajobs.saga.definition import Saga
from sagajobs.saga.events import Lifecycle, emit
from sagajobs.saga.operator import Signature, carry_on, next_look, signed
from sagajobs.saga.records import SagaRecord
from sagajobs.saga.states import UNFINISHED, SagaState, StepState, check_saga
from sagajobs.saga.store import Store

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

_SEE = text("SELECT state, paused_from FROM sagas WHERE id = CAST(:id AS uuid)")
_LOCK = text(f"{_SEE.text} FOR NO KEY UPDATE")

_MOVE = text("""
    WITH saga AS (
        UPDATE sagas SET
            state = :to, paused_from = CASE WHEN :to = 'paused' THEN state END, hints = 0, updated_at = saga_now(),
            error = coalesce(CAST(:error AS jsonb), error), next_at = saga_now() + make_interval(secs => :next_in)
        WHERE id = CAST(:id AS uuid) AND state = :was
        RETURNING id
    )
    INSERT INTO saga_events (saga_id, event, detail) SELECT id, :event, CAST(:detail AS jsonb) FROM saga
""")
"""Pause, resume or cancel: the saga's row, locked before, and a line of history."""

_BY_WAY_OF = {
    SagaState.COMPLETED: (SagaState.RUNNING, Lifecycle.SAGA_COMPLETED),
    SagaState.COMPENSATED: (SagaState.COMPENSATING, Lifecycle.SAGA_COMPENSATED),
    SagaState.MANUAL_REVIEW_REQUIRED: (SagaState.RUNNING, Lifecycle.REVIEW_REQUIRED),
}
"""Where a saga goes on its way to what it came to while it was paused, and what is said there."""


def pause(engine: Engine, saga_id: str, *, who: str, why: str) -> SagaState:
    """Let nothing more of a saga begin until it is resumed; what is in flight is recorded when it comes back.

    Args:
        engine: that knows the saga.
        saga_id: which saga.
        who: the operator; on record with the act.
        why: his reason; likewise.

    Returns:
        The saga's state now.

    Raises:
        InvalidInput: who or why is missing.
        SagaNotFound: no such saga.
        RemedyRefused: it cannot be paused where it stands; nothing was written.
    """
    signature = signed(who, why)
    with engine.database.transaction() as connection:
        record, _ = _locked(connection, saga_id)
        check_pause(record)
        _move(connection, record, SagaState.PAUSED, Lifecycle.SAGA_PAUSED, signature)
    emit(Lifecycle.SAGA_PAUSED, saga=record.name, saga_id=record.id, trace=record.trace)
    return SagaState.PAUSED


def resume(engine: Engine, saga_id: str, *, who: str, why: str) -> SagaState:
    """Let a paused saga go on where it was paused, or come to what it came to meanwhile; see `pause`."""
    signature = signed(who, why)
    with engine.database.transaction() as connection:
        record, meant = _locked(connection, saga_id)
        check_resume(record)
        way, said = _BY_WAY_OF.get(meant, (meant, None))
        _move(connection, record, way, Lifecycle.SAGA_RESUMED, signature, meant=meant, next_in=next_look(engine))
        store = Store(connection)
        if said is not None:
            store.turn(record.id, way, meant, said)
    emit(Lifecycle.SAGA_RESUMED, saga=record.name, saga_id=record.id, trace=record.trace)
    if said is not None:
        emit(said, saga=record.name, saga_id=record.id, trace=record.trace)
    engine.executor.tell(store.successors)
    carry_on(engine, record.id)
    return meant


def cancel(engine: Engine, saga_id: str, *, who: str, why: str) -> SagaState:
    """Undo a saga that is under way as if it had failed; see `pause`.

    Raises:
        RemedyRefused: it has ended, is being undone already, or is past the pivot, from where it only goes forward.
    """
    signature = signed(who, why)
    cancelled = {"step": None, "class": "Cancelled", "message": "cancelled by an operator", "kind": "permanent"}
    with engine.database.transaction() as connection:
        record, meant = _locked(connection, saga_id)
        check_cancel(record, meant, engine.kind_of(record))
        _move(
            connection,
            record,
            SagaState.COMPENSATING,
            Lifecycle.SAGA_CANCELLED,
            signature,
            next_in=next_look(engine),
            error=cancelled,
        )
    emit(Lifecycle.SAGA_CANCELLED, saga=record.name, saga_id=record.id, trace=record.trace)
    carry_on(engine, record.id)
    return SagaState.COMPENSATING


def look(engine: Engine, saga_id: str) -> tuple[SagaRecord, SagaState]:
    """Return a saga and, if it is paused, what it was or has come to since; else its state."""
    with engine.database.reading() as connection:
        record = Store(connection).read(saga_id)
        row = connection.execute(_SEE, {"id": record.id}).one()
    return record, SagaState(row.paused_from or row.state)


# --- what is refused, and why ---


def check_pause(record: SagaRecord) -> None:
    """Raise `RemedyRefused` unless a saga can be paused."""
    _check_declared(record)
    if record.state not in UNFINISHED:
        raise RemedyRefused(f"saga {record.id} is {record.state}: only one that is under way can be paused")


def check_resume(record: SagaRecord) -> None:
    """Raise `RemedyRefused` unless a saga can be resumed."""
    if record.state is not SagaState.PAUSED:
        raise RemedyRefused(f"saga {record.id} is {record.state}: only one that is paused can be resumed")


def check_cancel(record: SagaRecord, meant: SagaState, kind: type[Saga] | None) -> None:
    """Raise `RemedyRefused` unless a saga can be cancelled.

    Args:
        record: what the table says.
        meant: what it was before it was paused, or has come to since; else its state.
        kind: its class, None if it is not known here.
    """
    _check_declared(record)
    if record.state is SagaState.MANUAL_REVIEW_REQUIRED:
        raise RemedyRefused(f"saga {record.id} waits for a person: settle its review case instead")
    if meant not in (SagaState.PENDING, SagaState.RUNNING):
        reasons = {
            SagaState.PARTIAL: "it is done outside and only goes forward",
            SagaState.COMPENSATING: "it is being undone already",
            SagaState.MANUAL_REVIEW_REQUIRED: "it came to need a person while it was paused; resume it",
        }
        now = record.state if record.state is meant else f"paused ({meant})"
        raise RemedyRefused(f"saga {record.id} is {now}: {reasons.get(meant, 'it is over')}")
    if kind is None:
        raise RemedyRefused(f"no code here knows sagas of kind {record.name}, so whether it can be undone is not known")
    kind.definition.check(record)
    passed = next((glance.name for glance in record.steps.values() if _irrevocable(record, kind, glance.name)), None)
    if passed is not None:
        raise RemedyRefused(f"saga {record.id} is past the pivot (step {passed}): it only goes forward from there")


def _irrevocable(record: SagaRecord, kind: type[Saga], name: str) -> bool:
    """Tell whether a step at or past the pivot stands or may stand; a local one at work is taken back whole."""
    step: Step = kind.definition.step(name)
    glance = record.steps[name]
    done = glance.state in (StepState.DONE, StepState.UNKNOWN)
    at_work = glance.state is StepState.RUNNING and step.external
    in_doubt = glance.state in (StepState.WAITING, StepState.FAILED) and glance.in_doubt
    stands = done or at_work or in_doubt
    return stands and (step.pivot or step.after_pivot)


def _check_declared(record: SagaRecord) -> None:
    if record.kind == "orchestrated":
        raise RemedyRefused(f"saga {record.id} is run by a process of its own, which alone can stop it")


def _locked(connection: Connection, saga_id: str) -> tuple[SagaRecord, SagaState]:
    """Lock a saga's row and read it; see `look`."""
    Store(connection).status(saga_id)  # refuses what is no id
    row = connection.execute(_LOCK, {"id": saga_id}).one()
    return Store(connection).read(saga_id), SagaState(row.paused_from or row.state)


def _move(
    connection: Connection,
    record: SagaRecord,
    to: SagaState,
    event: Lifecycle,
    by: Signature,
    *,
    meant: SagaState | None = None,
    next_in: float | None = None,
    error: dict[str, Any] | None = None,
) -> None:
    check_saga(record.state, to)
    more: dict[str, Any] = {"was": record.state} if meant is None else {"was": record.state, "to": meant}
    connection.execute(
        _MOVE,
        {
            "id": record.id,
            "was": record.state,
            "to": to,
            "event": event,
            "detail": json.dumps(by.detail(**more)),
            "next_in": next_in,
            "error": None if error is None else json.dumps(error),
        },
    )
    action = event.replace("_", ".", 1)
    put_on_record(connection, by, action, entity="saga", saga_id=record.id, saga=record.name, **more)
