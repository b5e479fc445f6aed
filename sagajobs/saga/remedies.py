"""Which remedies a review case takes and what each of them changes: pure functions over what the table says.

======================  =====================  ==================================================================
what is in question     how it came about      remedies beside `abandon`
======================  =====================  ==================================================================
no step                 the code cannot take   `retry`, by code that can
                        it up, or knows no
                        such saga
a step that failed      attempts used up, by   `retry`; `mark_done`; `skip`, unless an attempt may stand;
                        death or degradation;  `mark_undone` before the pivot: nothing of it stands, undo the rest;
                        in doubt and beyond    one whose result is `needed`: no `skip`, and `mark_done` only where
                        undo; past the pivot;  the reference makes its result (`@step.by_hand`)
                        what was to replace it
                        failed
a step that may stand   nothing can tell       `retry`: look again; `mark_done`; `mark_undone`: before the pivot
                                               the rest is undone, past it the step is done again
a step that is done     its local writes are   `retry`: make them now; `skip`: go on without them
outside                 refused, and there is
                        no undo any more
an undo that failed     refused, or attempts   `retry`; `mark_undone`
                        used up
an orchestrated saga    its process is gone,   `mark_done` while it went forward; `mark_undone`: both say it of the
                        or could not undo      saga as a whole, as nobody else can carry its functions out
======================  =====================  ==================================================================

Every remedy raises the fence of the steps it touches: a worker that comes back from the dead writes nothing (SPEC G5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sagajobs.errors import RemedyRefused
from sagajobs.saga.declaration import Step
from sagajobs.saga.records import SagaRecord, StepGlance
from sagajobs.saga.shape import Definition
from sagajobs.saga.states import SagaState, StepState, check_saga, check_step


class Remedy(StrEnum):
    """What a person can do about a review case."""

    RETRY = "retry"
    """Try again, with fresh attempts and looks."""
    SKIP = "skip"
    """Go on without it."""
    MARK_DONE = "mark_done"
    """It stands, done by hand."""
    MARK_UNDONE = "mark_undone"
    """It does not stand (any more), undone by hand."""
    ABANDON = "abandon"
    """Leave the saga as it is, unsolved, for good."""


class Writes(StrEnum):
    """Local writes that a remedy makes in its own transaction."""

    RECORD = "record"
    """Those that belong to the step's result."""
    UNDO_RECORD = "undo_record"
    """Those that belong to its undo."""


@dataclass(frozen=True, slots=True)
class StepChange:
    """What a remedy changes of one step; its fence is raised in any case.

    Attributes:
        name: of the step.
        was: its state before.
        path: the states that it passes through, none if it stays where it is.
        fresh: attempts and looks are counted from nothing again.
    """

    name: str
    was: StepState
    path: tuple[StepState, ...] = ()
    fresh: bool = False

    @property
    def to(self) -> StepState:
        """Its state afterwards."""
        return self.path[-1] if self.path else self.was


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a remedy changes.

    Attributes:
        remedy: which one.
        to: the saga's state afterwards.
        stage: the saga's stage afterwards.
        open_steps: steps of that stage that are not over.
        changes: of the steps, in the order in which they are made.
        writes: local writes that are made along with it.
        ask_about: a step that failed meanwhile, for which another case is opened at once.
    """

    remedy: Remedy
    to: SagaState
    stage: int
    open_steps: int
    changes: tuple[StepChange, ...] = ()
    writes: Writes | None = None
    ask_about: str | None = None

    @property
    def ends(self) -> bool:
        """It ends the saga, solved or not."""
        return self.remedy is Remedy.ABANDON or self.to in (SagaState.COMPLETED, SagaState.COMPENSATED)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a case is about.

    Attributes:
        case: its number.
        saga: what the table says.
        step: name of the step in question, None for none.
        was: the saga's state before.
        open_steps: steps of the saga's stage that are not over.
        in_doubt: the step in question failed, and an earlier attempt may stand.
        definition: the saga's steps, None if they are not declared (orchestrated) or not known here.
        unknown: why this code cannot take the saga up, None if it can.
    """

    case: int
    saga: SagaRecord
    step: str | None
    was: SagaState
    open_steps: int
    in_doubt: bool = False
    definition: Definition | None = None
    unknown: str | None = None

    @property
    def backward(self) -> bool:
        """It was being undone."""
        return self.was is SagaState.COMPENSATING


@dataclass(frozen=True, slots=True)
class Options:
    """The remedies that a case takes, and in one clause why it takes no others."""

    resolutions: Mapping[Remedy, Resolution]
    why: str


def decide(situation: Situation, remedy: Remedy) -> Resolution:
    """Return what a remedy changes; raises `RemedyRefused` in one line that says which remedies make sense."""
    found = options(situation)
    if remedy not in found.resolutions:
        others = [str(known) for known in Remedy if known in found.resolutions]
        said = refusal(situation.case, remedy, found.why, others)
        raise RemedyRefused(said, why=found.why, takes=others)
    return found.resolutions[remedy]


def refusal(case: int, remedy: str, why: str, takes: Sequence[str]) -> str:
    """Say in one line that a case does not take a remedy, why, and which it takes."""
    listed = " or ".join((", ".join(takes[:-1]), takes[-1])) if len(takes) > 1 else takes[0]
    return f"case {case} takes no {remedy}: {why}; it takes {listed}"


def options(situation: Situation) -> Options:
    """Return the remedies that a case takes."""
    found, why = _of(situation)
    saga = situation.saga
    given_up = Resolution(Remedy.ABANDON, SagaState.MANUAL_REVIEW_REQUIRED, saga.stage, situation.open_steps)
    for resolution in found:
        check_saga(SagaState.MANUAL_REVIEW_REQUIRED, resolution.to)
        for change in resolution.changes:
            for old, new in zip((change.was, *change.path), change.path, strict=False):
                check_step(old, new)
    return Options({resolution.remedy: resolution for resolution in (*found, given_up)}, why)


def _of(situation: Situation) -> tuple[list[Resolution], str]:  # noqa: PLR0911 - a decision table
    if situation.saga.kind == "orchestrated":
        return _orchestrated(situation)
    if situation.unknown is not None or situation.definition is None:
        return [], situation.unknown or "no code here knows it"
    glance = situation.saga.steps.get(situation.step or "")
    if glance is not None:
        step = situation.definition.step(glance.name)
        if glance.state is StepState.FAILED and not situation.backward:
            return _failed(situation, glance, step)
        if glance.state in (StepState.UNKNOWN, StepState.RUNNING):
            return _in_doubt(situation, glance, step)
        if glance.state is StepState.DONE and not situation.backward:
            return _unrecorded(situation, glance)
        if glance.state is StepState.UNDO_FAILED:
            return _not_undone(situation, glance)
    again = _back(situation, Remedy.RETRY) if situation.backward else _on(situation, Remedy.RETRY)
    return [again], "no step is in question, but whether the code can take the saga up"


def _failed(situation: Situation, glance: StepGlance, step: Step) -> tuple[list[Resolution], str]:
    name, was = glance.name, glance.state
    found = [
        _on(situation, Remedy.RETRY, StepChange(name, was, (StepState.WAITING,), fresh=True)),
    ]
    why = f"step {name} failed"
    if _can_be_done_by_hand(step):
        done = StepChange(name, was, (StepState.DONE,))
        found.append(_on(situation, Remedy.MARK_DONE, done, over=True, writes=Writes.RECORD))
    if step.needed:
        why += ", and later steps cannot do without its result"
    if situation.in_doubt:
        why += ", and an earlier attempt may stand"
    elif not step.needed:
        found.append(_on(situation, Remedy.SKIP, StepChange(name, was, (StepState.SKIPPED,)), over=True))
    if step.after_pivot:
        why += ", and past the pivot nothing is undone"
    else:
        found.append(_unwind(situation, StepChange(name, was, (StepState.UNDONE,)), step))
    return found, why


def _in_doubt(situation: Situation, glance: StepGlance, step: Step) -> tuple[list[Resolution], str]:
    name, was = glance.name, glance.state
    look, done = StepChange(name, was, fresh=True), StepChange(name, was, (StepState.DONE,))
    found = [_back(situation, Remedy.RETRY, look) if situation.backward else _on(situation, Remedy.RETRY, look)]
    if situation.backward:
        found.append(_back(situation, Remedy.MARK_DONE, done, writes=Writes.RECORD))
    elif _can_be_done_by_hand(step):
        found.append(_on(situation, Remedy.MARK_DONE, done, over=True, writes=Writes.RECORD))
    if step.after_pivot and not situation.backward:
        found.append(_on(situation, Remedy.MARK_UNDONE, StepChange(name, was, (StepState.WAITING,), fresh=True)))
    else:
        found.append(_unwind(situation, StepChange(name, was, (StepState.FAILED, StepState.UNDONE)), step))
    return found, f"step {name} may have happened, so say whether it did"


def _can_be_done_by_hand(step: Step) -> bool:
    return not step.needed or step.taker is not None


def _unrecorded(situation: Situation, glance: StepGlance) -> tuple[list[Resolution], str]:
    stays = StepChange(glance.name, glance.state)
    found = [
        _on(situation, Remedy.RETRY, stays, over=True, writes=Writes.RECORD),
        _on(situation, Remedy.SKIP, stays, over=True),
    ]
    return found, f"step {glance.name} is done, past undoing, and only its local writes are missing"


def _not_undone(situation: Situation, glance: StepGlance) -> tuple[list[Resolution], str]:
    name, was = glance.name, glance.state
    found = [
        _back(situation, Remedy.RETRY, StepChange(name, was, fresh=True)),
        _back(situation, Remedy.MARK_UNDONE, StepChange(name, was, (StepState.UNDONE,)), writes=Writes.UNDO_RECORD),
    ]
    return found, f"the undo of step {name} failed, so that it still stands"


_UNDONE_FROM = {
    StepState.RUNNING: (StepState.FAILED, StepState.UNDONE),
    StepState.DONE: (StepState.UNDONE,),
    StepState.UNDOING: (StepState.UNDONE,),
    StepState.UNDO_FAILED: (StepState.UNDONE,),
}


def _orchestrated(situation: Situation) -> tuple[list[Resolution], str]:
    """Say of the whole saga what became of it: nobody but the process that is gone could carry a part of it out."""
    saga = situation.saga
    newest_first = sorted(saga.steps.values(), key=lambda glance: -glance.position)
    undone = tuple(
        StepChange(glance.name, glance.state, _UNDONE_FROM[glance.state])
        for glance in newest_first
        if glance.state in _UNDONE_FROM
    )
    found = [Resolution(Remedy.MARK_UNDONE, SagaState.COMPENSATED, saga.stage, 0, undone)]
    why = "its steps were functions of a process that is gone"
    if situation.backward:
        return found, f"{why}, which was undoing them"
    done = tuple(
        StepChange(glance.name, glance.state, (StepState.DONE,))
        for glance in reversed(newest_first)
        if glance.state is StepState.RUNNING
    )
    return [Resolution(Remedy.MARK_DONE, SagaState.COMPLETED, saga.stage, 0, done), *found], why


def _unwind(situation: Situation, change: StepChange, step: Step) -> Resolution:
    writes = Writes.UNDO_RECORD if step.undo is not None else None
    return _back(situation, Remedy.MARK_UNDONE, change, writes=writes)


def _back(situation: Situation, remedy: Remedy, *changes: StepChange, writes: Writes | None = None) -> Resolution:
    """Undo the saga. That nothing is left to undo, and `compensated` with it, is for the engine to find."""
    saga = situation.saga
    return Resolution(remedy, SagaState.COMPENSATING, saga.stage, situation.open_steps, changes, writes)


def _on(
    situation: Situation,
    remedy: Remedy,
    *changes: StepChange,
    over: bool = False,
    writes: Writes | None = None,
) -> Resolution:
    """Carry the saga on; over, to its next stage or its end.

    A step beside the one in question may have failed for good while the saga waited for a person, who was asked about
    one of them only. What the engine would have done of it then is done now: undo the saga or, past the pivot or where
    an earlier attempt of it may stand, ask.
    """
    saga, open_steps = situation.saga, situation.open_steps
    failed = _failed_beside(situation)
    if failed is not None and (failed.after_pivot or saga.steps[failed.name].in_doubt):
        left = open_steps - over
        return Resolution(
            remedy, SagaState.MANUAL_REVIEW_REQUIRED, saga.stage, left, changes, writes, ask_about=failed.name
        )
    if failed is not None:
        return Resolution(remedy, SagaState.COMPENSATING, saga.stage, open_steps, changes, writes)
    if not over:
        return Resolution(remedy, SagaState.RUNNING, saga.stage, open_steps, changes, writes)
    if open_steps > 1:
        return Resolution(remedy, SagaState.RUNNING, saga.stage, open_steps - 1, changes, writes)
    following = sum(glance.stage == saga.stage + 1 for glance in saga.steps.values())
    to = SagaState.RUNNING if following else SagaState.COMPLETED
    return Resolution(remedy, to, saga.stage + 1, following, changes, writes)


def _failed_beside(situation: Situation) -> Step | None:
    if situation.definition is None:
        return None
    for glance in situation.saga.steps.values():
        if glance.stage == situation.saga.stage and glance.state is StepState.FAILED and glance.name != situation.step:
            step = situation.definition.step(glance.name)
            if not step.optional:
                return step
    return None
