"""Where a moment of a drawing goes: from left to right, the long stretches in which nothing is done shortened."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from sagajobs.desk.drawing import Bar, Drawing

_WORK = (Bar.ATTEMPT, Bar.LOOK, Bar.UNDO)

_LONG = 3
"""So many times all that is shorter: a stretch beside which the rest could not be seen. Waits that double are none."""

_SHARE = 0.5
"""What all shortened stretches take up, for each second of the rest; one alone takes half of it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch that is drawn shortened: from when to when, in seconds after the saga's start."""

    begins: float
    ends: float

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.ends - self.begins


class Scale:
    """Turns moments of a drawing into places.

    Attributes:
        cuts: what is drawn shortened, in order.
    """

    def __init__(self, drawing: Drawing) -> None:
        idle = list(_idle(drawing))
        rest = drawing.seconds - sum(one.seconds for one in idle)
        short = 0
        by_length = sorted(idle, key=lambda one: one.seconds)
        while short < len(idle) and by_length[short].seconds <= _LONG * rest:
            rest += by_length[short].seconds
            short += 1
        # Without any work there is nothing that could not be seen beside it.
        self.cuts = sorted(by_length[short:], key=lambda one: one.begins) if rest > 0 else []
        self._drawn = _SHARE * rest / max(2, len(self.cuts))
        self._length = (rest + self._drawn * len(self.cuts) if self.cuts else drawing.seconds) or 1.0
        self._begins = [one.begins for one in self.cuts]
        self._saved = list(accumulate((one.seconds - self._drawn for one in self.cuts), initial=0.0))

    def place(self, at: float) -> float:
        """Return where a moment goes, from 0 to 1."""
        last = bisect_right(self._begins, at) - 1
        if last < 0:
            return at / self._length
        cut = self.cuts[last]
        passed = (min(at, cut.ends) - cut.begins) / cut.seconds
        return (at - self._saved[last] - passed * (cut.seconds - self._drawn)) / self._length


def _idle(drawing: Drawing) -> Iterator[Cut]:
    work = sorted((one.begins, one.ends) for lane in drawing.lanes for one in lane.stretches if one.bar in _WORK)
    until = 0.0
    for begins, ends in [*work, (drawing.seconds, drawing.seconds)]:
        if begins > until:
            yield Cut(until, begins)
        until = max(until, ends)
