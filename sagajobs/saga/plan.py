"""What to do next, decided from what the table says and nothing else: pure functions, dumb execution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sagajobs.saga.declaration import Step
from sagajobs.saga.records import Look, SagaRecord, StepGlance
from sagajobs.saga.shape import Definition
from sagajobs.saga.states import FORWARD, SagaState, StepState


class Do(StrEnum):
    """What a delivery finds to do."""

    NOTHING = "nothing"
    """Done, held by somebody else, not due, or not this saga's turn: end, and the chain with it."""
    CARRY_ON = "carry_on"
    """Done, but its worker died before it sent the next message: end well, so that the chain goes on."""
    FAIL_AGAIN = "fail_again"
    """Failed on record, but its worker died before Celery heard of it: raise, so that the errback is called."""
    RUN = "run"
    """Work."""
    SETTLE = "settle"
    """Its outcome is unknown: probe."""
    TOO_LATE = "too_late"
    """The saga's `useful_until` has passed: fail instead of trying."""
    EXHAUSTED = "exhausted"
    """Every attempt was used up by deliveries that never came back: a person must look."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with a step.

    Attributes:
        do: the kind of act.
        attempt: the number of this attempt, if work is to be done.
        counted: the attempt goes on record, with a lease, before the work begins.
        wait: seconds after which another look makes sense, if there is nothing to do now.
    """

    do: Do
    attempt: int = 0
    counted: bool = False
    wait: float = 0.0


def forward(look: Look, step: Step, *, redelivered: bool) -> Plan:  # noqa: PLR0911 - a decision table
    """Decide what a delivery of `step` going forward finds to do.

    Args:
        look: the saga and the step, locked.
        step: its declaration.
        redelivered: the broker says that this message was given to a worker before.
    """
    saga, row = look.saga, look.step
    if row is None:
        return Plan(Do.NOTHING)
    if saga.state not in FORWARD:
        unheard = saga.state is SagaState.COMPENSATING and row.state is StepState.FAILED and redelivered
        return Plan(Do.FAIL_AGAIN if unheard else Do.NOTHING)
    if saga.stage != row.stage:
        # The step is over. Only a redelivered message may carry the chain on, and only onto a step that nobody has
        # touched: otherwise every duplicate would drag a second tail of the chain behind it.
        return Plan(Do.CARRY_ON if redelivered and _untouched(saga, row.stage + 1) else Do.NOTHING)
    if row.leased or row.early:
        return Plan(Do.NOTHING, wait=row.wait)
    died_in_it = row.state is StepState.RUNNING
    if row.state is StepState.UNKNOWN or (died_in_it and step.finder is not None):
        return Plan(Do.SETTLE)
    if row.state not in (StepState.WAITING, StepState.RUNNING):
        return Plan(Do.NOTHING)
    if saga.late and not step.after_pivot:
        return Plan(Do.TOO_LATE)
    counted = step.external or row.attempts > 0 or saga.hints > 0 or redelivered
    attempt = row.attempts + 1
    if counted and not step.external and row.attempts == 0:
        # A local step's first delivery counts itself in the commit that it makes anyway. That it is not on record
        # and there is a second one means that it may have died at work: it is counted now. Where only the sweep has
        # sent again, the first one may as well be late or lost, so that one attempt at least is really made.
        attempt = 2 if redelivered else min(2, step.most_attempts)
    if attempt > step.most_attempts:
        return Plan(Do.EXHAUSTED, attempt=row.attempts)
    return Plan(Do.RUN, attempt=attempt, counted=counted)


def _untouched(saga: SagaRecord, stage: int) -> bool:
    return saga.stage == stage and any(
        step.stage == stage and step.state is StepState.WAITING and step.attempts == 0 for step in saga.steps.values()
    )


def next_undo(saga: SagaRecord, definition: Definition, has_undo: Callable[[Step], bool]) -> Step | None:
    """Return the step that a compensating saga must turn to next, None if nothing is left to undo.

    What may still happen or may have happened comes first: it is the newest, and undoing what lies below it before
    its outcome is known could leave it standing alone. That includes a step that waits for its next attempt with the
    earlier one in doubt, as only its result tells what there is to undo, or whether something stands that cannot be
    undone; an optional one without an undo may stand or not. Then the steps that are done, newest first.

    Args:
        saga: what the table says.
        definition: the saga's steps.
        has_undo: tells whether a step that is done needs undoing (declared, and its condition holds).
    """
    open_ends = (StepState.RUNNING, StepState.UNKNOWN)
    standing = (StepState.UNDOING, StepState.UNDO_FAILED, StepState.DONE)
    steps = saga.steps.values()
    for glance in sorted(steps, key=lambda step: -step.position):
        step = definition.step(glance.name)
        matters = step.undo is not None or not step.optional
        if glance.state in open_ends or (glance.state is StepState.WAITING and glance.in_doubt and matters):
            return step
    for glance in sorted(steps, key=_age, reverse=True):
        step = definition.step(glance.name)
        if glance.state in standing and (glance.state is not StepState.DONE or has_undo(step)):
            return step
    return None


def _age(step: StepGlance) -> tuple[int, float, int]:
    # By the stage first: a clock that was set back, or a standby's, must not put a step before what it was built on.
    return (step.stage, step.finished or 0.0, step.position)
