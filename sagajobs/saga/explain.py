"""What a remedy, a cancel, a pause or a resume would do, said before it is done: the changes, and what would follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sagajobs.saga import control, remedies
from sagajobs.saga.cases import Case
from sagajobs.saga.definition import Saga
from sagajobs.saga.records import SagaRecord
from sagajobs.saga.rehearsal import Foreseen, Rehearsal
from sagajobs.saga.remedies import Remedy, Resolution, StepChange, Writes
from sagajobs.saga.review import Opened
from sagajobs.saga.states import SagaState, StepState

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

NO_REFERENCE = "<reference>"
"""What stands for an external reference that has not been given yet."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What one act would do.

    Attributes:
        act: the remedy's name, or `pause`, `resume`, `cancel`.
        refused: why it would be refused, None if it would not; nothing else is said then.
        changes: one line for each thing that would change.
        follows: what the saga would do next.
    """

    act: str
    refused: str | None = None
    changes: tuple[str, ...] = ()
    follows: tuple[Foreseen, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A review case, and what each remedy would do."""

    case: Case
    prospects: tuple[Prospect, ...]


def explain(
    engine: Engine,
    number: int,
    *,
    only: Remedy | None = None,
    reference: str | None = None,
    private: bool = False,
) -> Explanation:
    """Say what the remedies of an open case would do; nothing is changed, here or outside.

    Args:
        engine: that knows the saga.
        number: of the case.
        only: this remedy alone.
        reference: for `mark_done`, what was done by hand; it is looked up as it would be.
        private: show what calls would say about people.

    Raises:
        CaseNotFound: no case has that number.
        CaseClosed: it was settled before.
        RemedyRefused: `only` makes no sense for this case.
        InvalidInput, StepError: the reference does not fit, or cannot be looked up.
    """
    opened = engine.review.open(number)
    if only is not None:
        resolution = remedies.decide(opened.situation, only)
        return Explanation(opened.case, (_prospect(engine, opened, resolution, reference, private=private),))
    options = remedies.options(opened.situation)
    prospects = (
        _prospect(engine, opened, options.resolutions[remedy], reference, private=private)
        if remedy in options.resolutions
        else Prospect(remedy, refused=options.why)
        for remedy in Remedy
    )
    return Explanation(opened.case, tuple(prospects))


def foretell(engine: Engine, number: int, remedy: Remedy) -> tuple[str, ...]:
    """Return what a remedy would change, one line each, without a rehearsal of what follows: that may ask others.

    Raises:
        CaseNotFound, CaseClosed: as `explain`.
        RemedyRefused: it makes no sense for this case.
    """
    opened = engine.review.open(number)
    return tuple(_changes(opened, remedies.decide(opened.situation, remedy)))


def explain_pause(engine: Engine, saga_id: str) -> Prospect:
    """Say what a pause would do; raises `SagaNotFound`, `RemedyRefused`."""
    record, _ = control.look(engine, saga_id)
    control.check_pause(record)
    return Prospect("pause", changes=(f"saga: {record.state} → {SagaState.PAUSED}",))


def explain_resume(engine: Engine, saga_id: str, *, private: bool = False) -> Prospect:
    """Say what a resume would do; raises `SagaNotFound`, `RemedyRefused`."""
    record, meant = control.look(engine, saga_id)
    control.check_resume(record)
    return _turned("resume", engine, record, meant, private=private)


def explain_cancel(engine: Engine, saga_id: str, *, private: bool = False) -> Prospect:
    """Say what a cancel would do; raises `SagaNotFound`, `RemedyRefused`."""
    record, meant = control.look(engine, saga_id)
    control.check_cancel(record, meant, engine.kind_of(record))
    return _turned("cancel", engine, record, SagaState.COMPENSATING, private=private)


def _turned(act: str, engine: Engine, record: SagaRecord, to: SagaState, *, private: bool) -> Prospect:
    kind = engine.kind_of(record)
    turned = replace(record, state=to)
    follows = () if kind is None else Rehearsal(kind, turned, private=private).follows()
    return Prospect(act, changes=(f"saga: {record.state} → {to}", *_ends(turned, follows)), follows=follows)


def _prospect(
    engine: Engine, opened: Opened, resolution: Resolution, reference: str | None, *, private: bool
) -> Prospect:
    given = reference if resolution.remedy is Remedy.MARK_DONE else None
    result = None if given is None else _taken(engine, opened, given, private=private)
    record = _after(opened.situation.saga, resolution, result or {"reference": NO_REFERENCE})
    follows: tuple[Foreseen, ...] = ()
    if opened.kind is not None and opened.situation.unknown is None:
        follows = Rehearsal(opened.kind, record, private=private).follows()
    changes = (*_changes(opened, resolution), *_ends(record, follows))
    return Prospect(resolution.remedy, changes=changes, follows=follows)


def _taken(engine: Engine, opened: Opened, reference: str, *, private: bool) -> object:
    """Look a reference up with services that can change nothing."""
    if opened.kind is None or opened.step is None:
        return engine.review.taken(opened, reference)
    saga, _ = Rehearsal(opened.kind, opened.situation.saga, private=private).instance()
    return engine.review.taken(opened, reference, saga)


def _after(record: SagaRecord, resolution: Resolution, result: object) -> SagaRecord:
    """Return where the saga would stand after a remedy."""
    steps = dict(record.steps)
    for change in resolution.changes:
        glance = steps[change.name]
        done = StepState.DONE in change.path
        steps[change.name] = replace(
            glance,
            state=change.to,
            output=result if done else glance.output,
            finished=math.inf if done else glance.finished,  # the newest, so the first to be undone
        )
    return replace(record, state=resolution.to, stage=resolution.stage, steps=steps)


def _changes(opened: Opened, resolution: Resolution) -> Iterator[str]:
    yield f"case {opened.case.number}: open → closed"
    for change in resolution.changes:
        yield _change(change)
    if resolution.writes is not None and opened.step is not None:
        undo = opened.step.undo
        note = opened.step.note if resolution.writes is Writes.RECORD else undo and undo.note
        if note is not None:
            yield f"local: {_first_line(note)}"
    if resolution.ask_about is None and opened.kind is not None and opened.kind.note_settled is not Saga.note_settled:
        yield f"local: {_first_line(opened.kind.note_settled)}"
    if resolution.remedy is Remedy.ABANDON:
        yield f"saga: stays {SagaState.MANUAL_REVIEW_REQUIRED}, for good; its locks are let go of"
    elif resolution.ask_about is not None:
        yield f"case: another one is opened, as step {resolution.ask_about} has failed meanwhile"
    else:
        yield f"saga: {SagaState.MANUAL_REVIEW_REQUIRED} → {resolution.to}"


def _first_line(method: Callable[..., Any]) -> str:
    return (method.__doc__ or method.__name__).strip().partition("\n")[0]


def _change(change: StepChange) -> str:
    fresh = ", counted from nothing again" if change.fresh else ""
    if not change.path:
        return f"step {change.name}: stays {change.was}{fresh}"
    return f"step {change.name}: {' → '.join((change.was, *change.path))}{fresh}"


def _ends(record: SagaRecord, follows: tuple[Foreseen, ...]) -> Iterator[str]:
    if record.state is SagaState.COMPENSATING and not follows:
        yield f"saga: then {SagaState.COMPENSATED}, as nothing is left to undo"
