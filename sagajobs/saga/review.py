"""The review desk: what waits for a person, and the remedies with which he settles it (SPEC 3, manual review).

A remedy is one transaction: the case is closed, step and saga change under the state machine, and the history gets a
line. It locks in the engine's order, the step's row and then the saga's, and only then the case: of two operators at
once the second one waits, finds the case closed, and is told by whom.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from sagajobs.errors import InvalidInput, RemedyRefused
from sagajobs.saga import cases, remedies
from sagajobs.saga.cases import ALL, Case, Happening, Sieve, check_open
from sagajobs.saga.declaration import Step
from sagajobs.saga.definition import Saga
from sagajobs.saga.events import Lifecycle, emit
from sagajobs.saga.locks import Successor, release_locks
from sagajobs.saga.noting import note
from sagajobs.saga.operator import Signature, carry_on, next_look, signed
from sagajobs.saga.records import SagaRecord
from sagajobs.saga.remedies import Options, Remedy, Situation, Writes
from sagajobs.saga.settlement import Settlement
from sagajobs.saga.states import SagaState
from sagajobs.saga.store import Store, to_json

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

LONGEST_REFERENCE = 500
"""Characters of a reference to what was done by hand: an id or a URL."""

_SEE = text("""
    SELECT g.open_steps, s.error, s.output FROM sagas g LEFT JOIN saga_steps s ON s.saga_id = g.id AND s.name = :step
    WHERE g.id = CAST(:id AS uuid)
""")

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

    def cases(self, limit: int = 50, sieve: Sieve = ALL, *, after: int | None = None) -> list[Case]:
        """Return what waits for a person, the nearest appointment first, so many at most of those that are meant.

        `after` is the number of the case behind which to begin; raises `CaseNotFound` if there is none.
        """
        with self._database.reading() as connection:
            return cases.open_cases(connection, limit, sieve, after=after)

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
            settlement = Settlement(connection, opened.case)
            for change in resolution.changes:
                settlement.change(change, result, receipt)
            if resolution.writes is not None:
                self._write_locally(connection, opened, resolution.writes, result, receipt)
            settlement.move(resolution, next_in=next_look(self._engine))
            settlement.close(resolution, signature, reference)
            if opened.kind is not None and opened.situation.unknown is None and resolution.ask_about is None:
                shown = partial(opened.restore().note_settled, step=opened.case.step)
                note(self._database, connection, saga.id, shown)
            said = signature.detail(case=number, remedy=remedy, was=opened.case.was, now=resolution.to)
            detail = said if reference is None else {**said, "reference": reference}
            settlement.note(Lifecycle.REVIEW_CLOSED, opened.case.step, detail)
            if resolution.ends:
                settlement.note(_ENDINGS[resolution.to])
                successors = release_locks(connection, saga.id)
        emit(Lifecycle.REVIEW_CLOSED, saga=saga.name, saga_id=saga.id, step=opened.case.step, trace=saga.trace)
        if resolution.ends:
            emit(_ENDINGS[resolution.to], saga=saga.name, saga_id=saga.id, trace=saga.trace)
        self._engine.executor.tell(successors)
        carry_on(self._engine, saga.id)
        return Settled(number, saga.id, remedy, resolution.to, signature.who)

    def _lock(self, connection: Connection, number: int) -> Opened:
        """Lock what a remedy changes, in the engine's order, and read it afterwards: what was read before is old."""
        found = cases.case(connection, number)
        check_open(found)
        Settlement(connection, found).lock()
        found = cases.case(connection, number)
        check_open(found)
        return self._judge(connection, found)

    def _judge(self, connection: Connection, found: Case) -> Opened:
        saga = Store(connection).read(found.saga_id)
        if saga.state is not SagaState.MANUAL_REVIEW_REQUIRED:
            raise RemedyRefused(f"case {found.number} takes no remedy while its saga is {saga.state}: resume it first")
        kind = self._engine.kind_of(saga) if saga.kind == "declared" else None
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


def _unknown(kind: type[Saga] | None, saga: SagaRecord) -> str | None:
    """Return why this code cannot take a saga up, None if it can."""
    if kind is None:
        return f"no code here knows sagas of kind {saga.name}; deploy it first"
    why = kind.unfit(saga)
    return None if why is None else f"saga {saga.id}: {why}"
