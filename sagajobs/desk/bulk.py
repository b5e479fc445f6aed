"""One remedy for many cases: each by itself, as if somebody had settled them one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sagajobs.errors import CaseClosed, CaseNotFound, RemedyRefused
from sagajobs.saga import Engine, Remedy
from sagajobs.saga.cases import Case
from sagajobs.saga.explain import foretell
from sagajobs.saga.review import Settled

ForMany = Literal[Remedy.RETRY, Remedy.SKIP, Remedy.ABANDON]
"""Remedies that can be right for many cases alike: each is a decision. The others are statements about what stands
outside, booking by booking, which nobody can make of many at once."""

Missed = CaseClosed | CaseNotFound | RemedyRefused
"""What concerns one case alone: somebody was faster, it was purged, or it takes no such remedy."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case came to: how it was settled, or why it was not."""

    case: Case
    came_to: Settled | Missed


@dataclass(frozen=True, slots=True)
class Foretold:
    """What a remedy would change of one case, one line each, or why it would not."""

    case: Case
    would: tuple[str, ...] | Missed


def settle_each(
    engine: Engine,
    cases: Sequence[Case],
    remedy: ForMany,
    *,
    who: str,
    why: str,
    per_second: float,
    stop: threading.Event,
) -> Iterator[Outcome]:
    """Settle cases one after the other, each in its own transaction and with its own line of history.

    Done again, it finds what is left: a case that is settled is not open any more.

    Args:
        engine: that knows their sagas.
        cases: which.
        remedy: which; see `ForMany`.
        who: as for `ReviewDesk.retry`.
        why: likewise.
        per_second: so many are begun in a second, at most.
        stop: set, no other case is begun.

    Raises:
        InvalidInput: who or why is missing; nothing was done.
    """
    begin_at = time.monotonic()
    for case in cases:
        if stop.wait(max(begin_at - time.monotonic(), 0.0)):
            return
        begin_at = time.monotonic() + 1 / per_second
        yield Outcome(case, _settled(engine, case, remedy, who=who, why=why))


def _settled(engine: Engine, case: Case, remedy: ForMany, *, who: str, why: str) -> Settled | Missed:
    try:
        settled: Settled = getattr(engine.review, remedy)(case.number, who=who, why=why)
    except (CaseClosed, CaseNotFound, RemedyRefused) as error:
        return error
    return settled


def foretell_each(engine: Engine, cases: Sequence[Case], remedy: ForMany) -> Iterator[Foretold]:
    """Say what `settle_each` would change; nothing is, and nobody outside is asked."""
    for case in cases:
        try:
            yield Foretold(case, foretell(engine, case.number, remedy))
        except (CaseClosed, CaseNotFound, RemedyRefused) as error:
            yield Foretold(case, error)
