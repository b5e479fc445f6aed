"""The states of sagas and steps, and every legal arrow between them.

This module is the only place that knows the arrows: the store asks `check_saga` and `check_step` before it writes,
and a trigger in the database, which a test holds to the same two tables, refuses whatever slips past (docs/design.md).
"""

from __future__ import annotations

from enum import StrEnum

from sagajobs.errors import IllegalTransition


class SagaState(StrEnum):
    """Where a saga stands as a whole (SPEC 3)."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    PARTIAL = "partial"
    MANUAL_REVIEW_REQUIRED = "manual_review_required"
    PAUSED = "paused"


class StepState(StrEnum):
    """Where one step of a saga stands."""

    WAITING = "waiting"
    RUNNING = "running"
    UNKNOWN = "unknown"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNDOING = "undoing"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"


_S = SagaState
_T = StepState

FORWARD = frozenset({_S.PENDING, _S.RUNNING, _S.PARTIAL})
"""States in which the next step may be claimed."""

ENDED = frozenset({_S.COMPLETED, _S.COMPENSATED})
"""States that are never left."""

RESTING = frozenset({_S.MANUAL_REVIEW_REQUIRED, _S.PAUSED})
"""States that only a person leaves; the sweep passes them by."""

UNFINISHED = frozenset(SagaState) - ENDED - RESTING
"""States in which a saga has a `next_at`: the sweep looks after it."""

SAGA_ARROWS: dict[SagaState, frozenset[SagaState]] = {
    _S.PENDING: frozenset({_S.RUNNING, _S.COMPLETED, _S.COMPENSATING, _S.MANUAL_REVIEW_REQUIRED, _S.PAUSED}),
    _S.RUNNING: frozenset(
        {
            _S.COMPLETED,
            _S.COMPENSATING,
            _S.PARTIAL,
            _S.MANUAL_REVIEW_REQUIRED,
            _S.PAUSED,
        }
    ),
    _S.PARTIAL: frozenset({_S.RUNNING, _S.COMPLETED, _S.MANUAL_REVIEW_REQUIRED, _S.PAUSED}),
    _S.COMPENSATING: frozenset({_S.COMPENSATED, _S.MANUAL_REVIEW_REQUIRED, _S.PAUSED}),
    _S.PAUSED: frozenset({_S.PENDING, _S.RUNNING, _S.PARTIAL, _S.COMPENSATING}),
    _S.MANUAL_REVIEW_REQUIRED: frozenset({_S.RUNNING, _S.COMPENSATING, _S.COMPLETED, _S.COMPENSATED}),
    _S.COMPLETED: frozenset(),
    _S.COMPENSATED: frozenset(),
}

STEP_ARROWS: dict[StepState, frozenset[StepState]] = {
    _T.WAITING: frozenset({_T.RUNNING, _T.UNKNOWN, _T.DONE, _T.FAILED, _T.SKIPPED}),
    _T.RUNNING: frozenset({_T.WAITING, _T.UNKNOWN, _T.DONE, _T.FAILED}),
    _T.UNKNOWN: frozenset({_T.WAITING, _T.DONE, _T.FAILED}),
    _T.DONE: frozenset({_T.UNDOING, _T.UNDONE}),
    _T.FAILED: frozenset({_T.WAITING, _T.DONE, _T.SKIPPED, _T.UNDOING, _T.UNDONE}),
    _T.UNDOING: frozenset({_T.UNDONE, _T.UNDO_FAILED}),
    _T.UNDO_FAILED: frozenset({_T.UNDOING, _T.UNDONE}),
    _T.SKIPPED: frozenset(),
    _T.UNDONE: frozenset(),
}


def sources(new: SagaState) -> frozenset[SagaState]:
    """Return the states of a saga going forward from which it may go to `new`, or stay."""
    return frozenset(old for old in FORWARD if old is new or new in SAGA_ARROWS[old])


def check_saga(old: SagaState, new: SagaState) -> None:
    """Raise `IllegalTransition` unless a saga may go from `old` to `new` (staying is always legal)."""
    if old != new and new not in SAGA_ARROWS[old]:
        raise IllegalTransition(f"a saga cannot go from {old} to {new}")


def check_step(old: StepState, new: StepState) -> None:
    """Raise `IllegalTransition` unless a step may go from `old` to `new` (staying is always legal)."""
    if old != new and new not in STEP_ARROWS[old]:
        raise IllegalTransition(f"a step cannot go from {old} to {new}")
