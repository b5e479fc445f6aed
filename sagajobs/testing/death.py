"""Real deaths: workers killed with SIGKILL at every named point of every step and undo, all sagas at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from sagajobs.errors import SagaNotFinished
from sagajobs.saga import SagaHandle, SagaState
from sagajobs.saga.faultpoints import Point
from sagajobs.testing import deaths
from sagajobs.testing.case import Case
from sagajobs.testing.fleet import fleet
from sagajobs.testing.trial import SIGNED
from sagajobs.testing.verdict import CheckFailed

UNDO_POINTS = (
    Point.BEFORE_CLAIM,
    Point.AFTER_CLAIM,
    Point.AFTER_CALL,
    Point.BEFORE_COMMIT,
    Point.AFTER_COMMIT,
)
"""The points that an undo passes: it sends no message, and several share one delivery."""

WORKERS, CHILDREN = 2, 6
"""Workers, and the processes of each: most of the time a saga waits for somebody who is dead to be missed."""

ENDS_WITHIN = 200.0
"""Seconds that a saga may take from the start: a call of the dead must be over before it is made again."""


@dataclass(frozen=True)
class _Doomed:
    """A saga at which a worker dies: where, whether going backward, and the file that tells of it."""

    handle: SagaHandle
    step: str
    point: Point
    undo: bool
    hit: Path

    @property
    def place(self) -> str:
        return f"killed at {self.point} of {'the undo of ' if self.undo else ''}{self.step}"


def dies_at_every_point(case: Case) -> None:
    """A process of a real worker is killed at every point of every step, and of every undo that can be reached."""
    places = [(name, point, False) for name in case.usual.steps for point in Point]
    places += [(name, point, True) for name in case.undone for point in UNDO_POINTS]
    doomed: list[_Doomed] = []
    try:
        with fleet(case.workers, WORKERS, concurrency=CHILDREN, modules=[case.kind.__module__]) as beat:
            for place in places:
                doomed.append(_start(case, beat.folder, *place))  # noqa: PERF401 - those before one that cannot start
            failures = [failure for one in doomed if (failure := _failure(case, one)) is not None]
    finally:
        case.forget([one.handle for one in doomed])
    if failures:
        raise AssertionError(f"{len(failures)} of {len(doomed)} sagas did not end well\n" + "\n".join(failures))


def _start(case: Case, folder: Path, step: str, point: Point, undo: bool) -> _Doomed:  # noqa: FBT001 - of a list
    """Start a saga; the plan lies ready before anybody can take the message."""
    request = case.next_request()
    with Session(case.engine.database.engine) as session, session.begin():
        handle = case.engine.enqueue(case.kind, request, session=session)
        if undo and case.step(step).external:
            deaths.plan(folder, handle.id, step, Point.AFTER_CALL, deaths.Act.CANCEL)
        elif undo:
            deaths.plan(folder, handle.id, case.usual.next_to[step], Point.BEFORE_CLAIM, deaths.Act.CANCEL)
        hit = deaths.plan(folder, handle.id, step, f"undo.{point}" if undo else point, deaths.Act.CHILD)
    return _Doomed(handle, step, point, undo, hit)


def _failure(case: Case, one: _Doomed) -> str | None:
    """Wait for a saga and return what is wrong with it, if anything is."""
    verdict = case.verdict(one.handle, one.place)
    step = case.step(one.step)
    try:
        state = one.handle.wait(ENDS_WITHIN)
        if not one.hit.exists():
            raise verdict.failure("nobody died there")
        if state is SagaState.MANUAL_REVIEW_REQUIRED and not one.undo and step.most_attempts == 1:
            case.engine.review.retry(verdict.case().number, **SIGNED)
            one.handle.wait(ENDS_WITHIN)
        if one.undo:
            verdict.assert_end(SagaState.COMPENSATED)
        else:
            verdict.assert_end(SagaState.COMPLETED, standing=case.usual.standing, at_most=step.optional)
    except CheckFailed as failure:
        return str(failure)
    except (SagaNotFinished, AssertionError) as error:
        return str(verdict.failure(str(error)))
    return None
