"""The review desk: what waits for a person, and the remedies with which he settles it (SPEC 3, manual review).

A remedy is one transaction: the case is closed, step and saga change under the state machine, and the history gets a
line. It locks in the engine's order, the step's row and then the saga's, and only then the case: of two operators at
once the second one waits, finds the case closed, and is told by whom.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from sagajobs.errors import ClaimLost, DefinitionError, InvalidInput, RemedyRefused
from sagajobs.saga import cases, remedies
from sagajobs.saga.cases import Case, Happening, check_open
from sagajobs.saga.declaration import Step
from sagajobs.saga.definition import Saga
from sagajobs.saga.events import Lifecycle, emit
from sagajobs.saga.locks import Successor, release_locks
from sagajobs.saga.operator import Signature, carry_on, next_look, signed
from sagajobs.saga.records import SagaRecord
from sagajobs.saga.remedies import Options, Remedy, Resolution, Situation, StepChange, Writes
from sagajobs.saga.states import UNFINISHED, SagaState, StepState
from sagajobs.saga.store import Store, to_json

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

LONGEST_REFERENCE = 500
"""Characters of a reference to what was done by hand: an id or a URL."""

_LOCK_STEPS = text("""
    SELECT name FROM saga_steps
    WHERE saga_id = CAST(:id AS uuid) AND (name = :step OR CAST(:step AS text) IS NULL)
    ORDER BY position FOR NO KEY UPDATE
""")
"""The step in question or, if none is, all of them; whoever works on one is waited for."""

_LOCK_SAGA = text("SELECT id FROM sagas WHERE id = CAST(:id AS uuid) FOR NO KEY UPDATE")

_SEE = text("""
    SELECT g.open_steps, s.error, s.output FROM sagas g LEFT JOIN saga_steps s ON s.saga_id = g.id AND s.name = :step
    WHERE g.id = CAST(:id AS uuid)
""")

_CHANGE_STEP = text("""
    UPDATE saga_steps SET
        state = :to, fence = fence + 1, owner = NULL, lease_until = NULL, due_at = NULL, absences = 0,
        absent_since = NULL,
        attempts = CASE WHEN :fresh AND :to <> 'undo_failed' THEN 0 ELSE attempts END,
        undo_attempts = CASE WHEN :fresh THEN 0 ELSE undo_attempts END,
        probes = CASE WHEN :fresh THEN 0 ELSE probes END,
        output = coalesce(CAST(:output AS jsonb), output),
        receipt = coalesce(CAST(:receipt AS jsonb), receipt),
        error = CASE
            WHEN NOT :settled THEN error
            WHEN CAST(error->>'in_doubt' AS boolean) AND :to IN ('waiting', 'running')
            THEN error - 'attempt' - 'refused' END,
        finished_at = CASE WHEN :to = 'done' THEN coalesce(finished_at, saga_now()) ELSE finished_at END
    WHERE saga_id = CAST(:id AS uuid) AND name = :step AND state = :was
""")
"""Change a step that nobody works on, under its lock; the fence keeps out whoever still thinks that it is his.

Its error goes with what it was about (`:settled`), but for the word that an earlier attempt may stand.
"""

_SETTLE = text("""
    UPDATE sagas SET
        state = :to, stage = :stage, open_steps = :open_steps, hints = 0, updated_at = saga_now(),
        error = CASE WHEN :forward THEN NULL ELSE coalesce(error, CAST(:error AS jsonb)) END,
        next_at = saga_now() + make_interval(secs => :next_in),
        ended_at = CASE WHEN :ends THEN saga_now() END
    WHERE id = CAST(:id AS uuid) AND state = 'manual_review_required' AND ended_at IS NULL
""")

_CLOSE = text("""
    UPDATE review_cases SET closed_at = saga_now(), closed_by = :who, resolution = :remedy, why = :why
    WHERE id = :case AND closed_at IS NULL
""")

_HISTORY = text("""
    INSERT INTO saga_events (saga_id, event, step, fence, detail)
    SELECT CAST(:id AS uuid), :event, :step, (
        SELECT fence FROM saga_steps WHERE saga_id = CAST(:id AS uuid) AND name = :step), CAST(:detail AS jsonb)
""")

_ASK_AGAIN = text("""
    INSERT INTO review_cases (saga_id, step, reason, evidence, was, urgent_at)
    SELECT s.saga_id, s.name, 'failed past the pivot', jsonb_build_object('error', s.error), 'running', g.useful_until
    FROM saga_steps s JOIN sagas g ON g.id = s.saga_id WHERE g.id = CAST(:id AS uuid) AND s.name = :step
""")
"""Open another case for a step that failed beside the one in question, which nobody was asked about."""

_ENDINGS = {
    SagaState.COMPLETED: Lifecycle.SAGA_COMPLETED,
    SagaState.COMPENSATED: Lifecycle.SAGA_COMPENSATED,
    SagaState.MANUAL_REVIEW_REQUIRED: Lifecycle.SAGA_ABANDONED,
}


@dataclass(frozen=True, slots=True)
class Settled:
    """What a remedy came to.

    Attributes:
        case: the case's number; `saga_id` its saga.
        remedy: which one it was.
        state: the saga's state now.
        who: on whose record.
    """

    case: int
    saga_id: str
    remedy: Remedy
    state: SagaState
    who: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A case with everything that is needed to judge it: also what `explain` begins with.

    Attributes:
        case: the case itself.
        situation: what it is about.
        kind: the saga's class, None if it is not known here.
        step: the step in question, as declared.
        output: what the step returned, if it did.
    """

    case: Case
    situation: Situation
    kind: type[Saga] | None
    step: Step | None
    output: Any

    def restore(self) -> Saga:
        """Return the saga's instance; only where `situation.unknown` is None."""
        if self.kind is None:
            raise AssertionError(f"case {self.case.number} is about a saga that has no class")
        record = self.situation.saga
        return self.kind.restore(record.id, record.input, record.results)


class ReviewDesk:
    """Review cases and their remedies, as `engine.review`.

    Args:
        engine: whose sagas they are about.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._database = engine.database

    # --- looking ---

    def cases(self, limit: int = 50) -> list[Case]:
        """Return what waits for a person, the nearest appointment first, so many at most."""
        with self._database.reading() as connection:
            return cases.open_cases(connection, limit)

    def case(self, number: int) -> Case:
        """Return a case, open or closed; raises `CaseNotFound`."""
        with self._database.reading() as connection:
            return cases.case(connection, number)

    def of(self, saga_id: str) -> Case:
        """Return a saga's open case or, if there is none, its last one; raises `CaseNotFound`, `SagaNotFound`."""
        with self._database.reading() as connection:
            Store(connection).status(saga_id)
            return cases.last_case(connection, saga_id)

    def history(self, number: int) -> list[Happening]:
        """Return what happened to a case's saga, the oldest first; raises `CaseNotFound`."""
        with self._database.reading() as connection:
            return cases.history(connection, cases.case(connection, number).saga_id)

    def open(self, number: int) -> Opened:
        """Return an open case with everything that is needed to judge it.

        Raises:
            CaseNotFound: no case has that number.
            CaseClosed: it was settled before.
        """
        with self._database.reading() as connection:
            found = cases.case(connection, number)
            check_open(found)
            return self._judge(connection, found)

    def options(self, number: int) -> Options:
        """Return the remedies that an open case takes; raises as `open`."""
        return remedies.options(self.open(number).situation)

    # --- remedies ---

    def retry(self, number: int, *, who: str, why: str) -> Settled:
        """Try again what the case is about, with fresh attempts and looks.

        Args:
            number: of the case.
            who: the operator; on record with the remedy.
            why: his reason; likewise.

        Raises:
            InvalidInput: who or why is missing.
            CaseNotFound: no case has that number.
            CaseClosed: somebody else was faster; nothing was written.
            RemedyRefused: it makes no sense for this case; nothing was written.
        """
        return self._settle(number, Remedy.RETRY, signed(who, why))

    def skip(self, number: int, *, who: str, why: str) -> Settled:
        """Go on without the step that the case is about; arguments and exceptions as for `retry`."""
        return self._settle(number, Remedy.SKIP, signed(who, why))

    def mark_done(self, number: int, *, reference: str, who: str, why: str) -> Settled:
        """Say that it stands, as it was done by hand or is there after all; the saga goes on as if it had been done.

        Args:
            number: of the case.
            reference: what identifies it outside, such as a booking's uid; the step's author may have it looked up
                (`@step.by_hand`).
            who: as for `retry`.
            why: as for `retry`.

        Raises:
            InvalidInput: the reference is missing; or as for `retry`.
            StepError: the reference does not fit, or cannot be looked up now; nothing was written.
            CaseNotFound, CaseClosed, RemedyRefused: as for `retry`.
        """
        signature = signed(who, why)
        opened = self.open(number)
        remedies.decide(opened.situation, Remedy.MARK_DONE)  # before anybody outside is asked
        result = self.taken(opened, reference)
        return self._settle(number, Remedy.MARK_DONE, signature, result=result, reference=reference)

    def mark_undone(self, number: int, *, who: str, why: str) -> Settled:
        """Say that it does not stand (any more); arguments and exceptions as for `retry`."""
        signature = signed(who, why)
        return self._settle(number, Remedy.MARK_UNDONE, signature, receipt={"by_hand": signature.who})

    def abandon(self, number: int, *, who: str, why: str) -> Settled:
        """Leave the saga as it is, for good; its locks are let go of. Arguments and exceptions as for `retry`."""
        return self._settle(number, Remedy.ABANDON, signed(who, why))

    # --- how ---

    def taken(self, opened: Opened, reference: str, saga: Saga | None = None) -> Any:
        """Return what becomes the step's result when it was done by hand.

        Args:
            opened: the case.
            reference: what identifies it outside.
            saga: the instance whose services look it up, None for an ordinary one.

        Raises:
            InvalidInput, StepError: the reference is missing, does not fit, or cannot be looked up now.
        """
        if not reference.isprintable() or not 0 < len(reference.strip()) <= LONGEST_REFERENCE:
            raise InvalidInput(f"reference: name what was done by hand, in 1 to {LONGEST_REFERENCE} characters")
        step = opened.step
        if step is None or step.taker is None:
            return {"reference": reference.strip()}
        return to_json(step.taker(saga or opened.restore(), reference.strip(), *step.items))

    def _settle(
        self,
        number: int,
        remedy: Remedy,
        signature: Signature,
        *,
        result: Any = None,
        receipt: Any = None,
        reference: str | None = None,
    ) -> Settled:
        successors: list[Successor] = []
        with self._database.transaction() as connection:
            opened = self._lock(connection, number)
            saga = opened.situation.saga
            resolution = remedies.decide(opened.situation, remedy)
            if remedy is Remedy.RETRY and resolution.writes is not None:
                result = opened.output
            for change in resolution.changes:
                self._change(connection, saga.id, change, result, receipt)
            if resolution.writes is not None:
                self._write_locally(connection, opened, resolution.writes, result, receipt)
            self._move(connection, opened, resolution)
            closed = {"case": number, "who": signature.who, "why": signature.why, "remedy": remedy}
            connection.execute(_CLOSE, closed)
            said = signature.detail(case=number, remedy=remedy, was=opened.case.was, now=resolution.to)
            detail = said if reference is None else {**said, "reference": reference}
            self._note(connection, saga.id, Lifecycle.REVIEW_CLOSED, opened.case.step, detail)
            if resolution.ask_about is not None:
                connection.execute(_ASK_AGAIN, {"id": saga.id, "step": resolution.ask_about})
            if resolution.ends:
                self._note(connection, saga.id, _ENDINGS[resolution.to])
                successors = release_locks(connection, saga.id)
        emit(Lifecycle.REVIEW_CLOSED, saga=saga.name, saga_id=saga.id, step=opened.case.step)
        if resolution.ends:
            emit(_ENDINGS[resolution.to], saga=saga.name, saga_id=saga.id)
        self._engine.executor.tell(successors)
        carry_on(self._engine, saga.id)
        return Settled(number, saga.id, remedy, resolution.to, signature.who)

    def _lock(self, connection: Connection, number: int) -> Opened:
        """Lock what a remedy changes, in the engine's order, and read it afterwards: what was read before is old."""
        found = cases.case(connection, number)
        check_open(found)
        connection.execute(_LOCK_STEPS, {"id": found.saga_id, "step": found.step})
        connection.execute(_LOCK_SAGA, {"id": found.saga_id})
        found = cases.case(connection, number)
        check_open(found)
        return self._judge(connection, found)

    def _judge(self, connection: Connection, found: Case) -> Opened:
        saga = Store(connection).read(found.saga_id)
        if saga.state is not SagaState.MANUAL_REVIEW_REQUIRED:
            raise RemedyRefused(f"case {found.number} takes no remedy while its saga is {saga.state}: resume it first")
        kind = self._engine.kinds.get(saga.name) if saga.kind == "declared" else None
        unknown = _unknown(kind, saga)
        step = None if kind is None or unknown or found.step is None else kind.definition.step(found.step)
        seen = connection.execute(_SEE, {"id": saga.id, "step": found.step}).one()
        situation = Situation(
            case=found.number,
            saga=saga,
            step=found.step,
            was=found.was,
            open_steps=seen.open_steps,
            in_doubt=bool((seen.error or {}).get("in_doubt")),
            definition=None if kind is None else kind.definition,
            unknown=unknown,
        )
        return Opened(found, situation, kind, step, seen.output)

    def _change(self, connection: Connection, saga_id: str, change: StepChange, result: Any, receipt: Any) -> None:
        was = change.was
        for to in change.path or (change.was,):
            changed = connection.execute(
                _CHANGE_STEP,
                {
                    "id": saga_id,
                    "step": change.name,
                    "was": was,
                    "to": to,
                    "fresh": change.fresh,
                    "settled": bool(change.path) or was is StepState.DONE,
                    "output": json.dumps(result) if to is StepState.DONE and result is not None else None,
                    "receipt": json.dumps(receipt) if to is StepState.UNDONE and receipt is not None else None,
                },
            )
            if changed.rowcount != 1:
                raise ClaimLost(f"saga {saga_id}: step {change.name} is not {was} any more")
            was = to

    def _write_locally(self, connection: Connection, opened: Opened, writes: Writes, result: Any, receipt: Any) -> None:
        """Make the local writes that belong to what was done or undone, in the same transaction."""
        step = opened.step
        if step is None:
            return
        if writes is Writes.RECORD:
            note, value = step.note, result
        else:
            note, value = step.undo.note if step.undo else None, receipt
        if note is None:
            return
        try:
            with self._database.session(connection) as db:
                note(opened.restore(), db, value, *step.items)
        except Exception as error:
            raise RemedyRefused(
                f"case {opened.case.number}: the local writes of {note.__name__} are refused "
                f"({type(error).__name__}); nothing was changed"
            ) from error

    def _move(self, connection: Connection, opened: Opened, resolution: Resolution) -> None:
        goes_on = resolution.to in UNFINISHED
        turned = resolution.to is SagaState.COMPENSATING and not opened.situation.backward
        error = {"step": opened.case.step, "class": "UndoneByHand", "message": "undone by hand", "kind": "permanent"}
        moved = connection.execute(
            _SETTLE,
            {
                "id": opened.case.saga_id,
                "error": json.dumps(error) if turned else None,
                "to": resolution.to,
                "stage": resolution.stage,
                "open_steps": resolution.open_steps,
                "forward": resolution.to in (SagaState.RUNNING, SagaState.COMPLETED),
                "next_in": next_look(self._engine) if goes_on else None,
                "ends": resolution.ends,
            },
        )
        if moved.rowcount != 1:
            raise ClaimLost(f"saga {opened.case.saga_id} does not wait for a person any more")

    def _note(
        self, connection: Connection, saga_id: str, event: Lifecycle, step: str | None = None, detail: Any = None
    ) -> None:
        connection.execute(
            _HISTORY,
            {"id": saga_id, "event": event, "step": step, "detail": None if detail is None else json.dumps(detail)},
        )


def _unknown(kind: type[Saga] | None, saga: SagaRecord) -> str | None:
    """Return why this code cannot take a saga up, None if it can."""
    if kind is None:
        return f"no code here knows sagas of kind {saga.name}; deploy it first"
    try:
        kind.definition.check(saga)
        kind.restore(saga.id, saga.input, saga.results)
    except DefinitionError as error:
        return str(error)
    return None
