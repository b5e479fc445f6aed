"""A saga's history drawn: for each step, bars over time. Pure functions of what is on record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sagajobs.saga.events import Lifecycle


class Bar(StrEnum):
    """What a stretch of time was spent on."""

    ATTEMPT = "attempt"
    WAIT = "wait"
    LOOK = "look"
    UNDO = "undo"
    REVIEW = "review"
    PAUSE = "pause"


class Outcome(StrEnum):
    """What a stretch came to."""

    OPEN = "open"
    OVER = "over"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A bar.

    Attributes:
        bar: what it is.
        begins, ends: seconds after the saga's start; a look of the sweep at a case has no length on record.
        outcome: what it came to; open if it is under way.
        attempt: its number, if it has one.
    """

    bar: Bar
    begins: float
    ends: float
    outcome: Outcome
    attempt: int | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ends - self.begins


@dataclass(frozen=True, slots=True)
class Lane:
    """The bars of one step, or of the saga as a whole, whose `step` is None."""

    step: str | None
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A saga's lanes, the saga's own first and only if it has bars, and the seconds that they all span."""

    lanes: tuple[Lane, ...]
    seconds: float


@dataclass(slots=True)
class _Pen:
    """Draws one lane."""

    stretches: list[Stretch] = field(default_factory=list)
    bar: Bar | None = None
    since: float = 0.0
    attempt: int | None = None

    def begin(self, bar: Bar, at: float, attempt: int | None = None) -> None:
        self.end(at, Outcome.OVER)
        self.bar, self.since, self.attempt = bar, at, attempt

    def end(self, at: float, outcome: Outcome) -> None:
        if self.bar is not None:
            self.stretches.append(Stretch(self.bar, self.since, at, outcome, self.attempt))
        self.bar = None

    def over(self, bar: Bar, at: float, outcome: Outcome, since: float, attempt: int | None) -> None:
        """End a bar; one that was never seen to begin, as it began and ended in one commit, is drawn from `since`."""
        if self.bar is not bar:
            self.end(at, Outcome.OVER)
            self.bar, self.since, self.attempt = bar, min(since, at), attempt
        self.end(at, outcome)

    def glance(self, at: float) -> None:
        """Draw a look of which the history does not tell when it ended."""
        waiting = self.bar
        self.end(at, Outcome.OVER)
        self.stretches.append(Stretch(Bar.LOOK, at, at, Outcome.OVER))
        if waiting is not None:
            self.begin(waiting, at)


_BEGINS = {Lifecycle.STEP_EXECUTING: Bar.ATTEMPT, Lifecycle.COMPENSATION_STARTED: Bar.UNDO}

_ENDS = {
    Lifecycle.STEP_COMPLETED: (Bar.ATTEMPT, Outcome.DONE, False),
    Lifecycle.STEP_FAILED: (Bar.ATTEMPT, Outcome.FAILED, False),
    Lifecycle.STEP_RETRY: (Bar.ATTEMPT, Outcome.FAILED, True),
    Lifecycle.STEP_DEGRADED: (Bar.ATTEMPT, Outcome.FAILED, True),
    Lifecycle.STEP_UNKNOWN: (Bar.ATTEMPT, Outcome.UNKNOWN, True),
    Lifecycle.COMPENSATION_COMPLETED: (Bar.UNDO, Outcome.DONE, False),
    Lifecycle.COMPENSATION_FAILED: (Bar.UNDO, Outcome.FAILED, False),
    Lifecycle.COMPENSATION_RETRY: (Bar.UNDO, Outcome.FAILED, True),
}
"""What an event ends, how, and whether the step then waits for its time."""

_ASKS = (Lifecycle.REVIEW_REQUIRED, Lifecycle.REVIEW_CLOSED, Lifecycle.SAGA_PAUSED, Lifecycle.SAGA_RESUMED)
"""Events about the saga as a whole, whatever step they name."""

_LASTING = (Lifecycle.SAGA_COMPLETED, Lifecycle.SAGA_COMPENSATED, Lifecycle.SAGA_ABANDONED)


def draw(events: Iterable[Mapping[str, Any]], steps: Iterable[str], seconds: float) -> Drawing:
    """Draw what happened.

    Args:
        events: the history, oldest first, each with `after` (seconds since the saga's start), `event`, `step`,
            `attempt`, `detail`.
        steps: names, in their order.
        seconds: from the saga's start to its end or, if it has not ended, to now.
    """
    pens: dict[str | None, _Pen] = {None: _Pen(), **{name: _Pen() for name in steps}}
    before = 0.0
    ended = False
    for event in events:
        at = max(float(event["after"]), before)
        what = event["event"]
        ended = ended or what in _LASTING
        if what in _ASKS:
            _ask(pens[None], what, at)
        elif event["step"] in pens and event["step"] is not None:
            _note(pens[event["step"]], event, at, before)
        before = at
    span = max(seconds, before)
    for pen in pens.values():
        pen.end(span, Outcome.OVER if ended else Outcome.OPEN)
    lanes = [Lane(name, tuple(pen.stretches)) for name, pen in pens.items() if name is not None or pen.stretches]
    return Drawing(tuple(lanes), span)


def _ask(pen: _Pen, what: str, at: float) -> None:
    if what == Lifecycle.REVIEW_REQUIRED:
        pen.begin(Bar.REVIEW, at)
    elif what == Lifecycle.SAGA_PAUSED:
        pen.begin(Bar.PAUSE, at)
    else:
        pen.end(at, Outcome.OVER)


def _note(pen: _Pen, event: Mapping[str, Any], at: float, before: float) -> None:
    what, attempt = event["event"], event["attempt"]
    if what in _BEGINS:
        pen.begin(_BEGINS[Lifecycle(what)], at, attempt)
    elif what == Lifecycle.STEP_PROBED:
        if "case" in (event["detail"] or {}):
            pen.glance(at)  # the sweep's, at a case: it says nothing more unless that settles the case
        else:
            pen.begin(Bar.LOOK, at)
    elif what in _ENDS:
        bar, outcome, waits = _ENDS[Lifecycle(what)]
        if pen.bar in (Bar.WAIT, Bar.LOOK) and bar is Bar.ATTEMPT:
            # No attempt has begun since: a look, or a person, has said what became of the last one.
            pen.end(at, Outcome.OVER if waits else outcome)
        else:
            pen.over(bar, at, outcome, before, attempt)
        if waits:
            pen.begin(Bar.WAIT, at)
