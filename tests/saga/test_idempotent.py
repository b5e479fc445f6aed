"""External steps without a probe, idempotent by their author's word: what may stand is never called undone (G4)."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs.errors import PermanentError, RemedyRefused, TransientError
from sagajobs.saga import step
from tests.support.sagas import QUICK, record

LOST = TimeoutError("it got through, and its answer was lost")


@pytest.fixture
def outside(throwaway):
    """Have a saga of one such step carried out; each entry of the script is what one call raises."""

    def go(*script: Exception, optional: bool = False, hook=lambda saga: None):
        standing, calls = [], []

        def call(self, key):
            calls.append(key)
            hook(self)
            error = script[len(calls) - 1] if len(calls) <= len(script) else None
            if error is None or error is LOST:
                standing[:] = [key]
            if error is not None:
                raise error
            return key

        act = step(external=True, idempotent=True, optional=optional, retry=QUICK)(call)
        act.compensation(lambda self, result: standing.remove(result))
        return throwaway.sweep(throwaway.record(act=act)), standing, len(calls)

    return go


def test_attempts_used_up_in_doubt_are_settled_by_one_more_and_undone(outside):
    assert outside(LOST, LOST, LOST) == ("compensated", [], 4)


def test_a_doubt_outlives_the_failure_that_follows_it(outside):
    assert outside(LOST, PermanentError("no more")) == ("compensated", [], 3)


def test_an_optional_one_in_doubt_is_settled_too(outside):
    assert outside(LOST, LOST, LOST, optional=True) == ("compensated", [], 4)


def test_a_doubt_that_nothing_settles_is_a_persons(outside):
    state, standing, _ = outside(LOST, *[TransientError("down")] * 30)
    assert (state, len(standing)) == ("manual_review_required", 1)


@pytest.mark.parametrize("script", [[LOST] * 3, [LOST, PermanentError("no more")]])
def test_a_pivot_in_doubt_is_a_persons(throwaway, script):
    """It may have been passed: then nothing before it may be undone. A retry finds out."""
    undone = []

    def before(self, db):
        return None

    def call(self, key):
        if script:
            raise script.pop(0)

    before = step(before)
    before.compensation(lambda self, db: undone.append("before"))
    pivot = step(external=True, idempotent=True, pivot=True, retry=QUICK)(call)
    handle = throwaway.record(before=before, pivot=pivot)
    assert (throwaway.sweep(handle), undone) == ("manual_review_required", [])
    desk = handle.engine.review
    assert desk.of(handle.id).reason == "the pivot may have been passed"
    desk.retry(desk.of(handle.id).number, who="Op", why="they answer again")
    assert (throwaway.sweep(handle), undone) == ("completed", [])


def test_without_a_doubt_nothing_is_repeated(outside):
    assert outside(*[TransientError("down")] * 3) == ("compensated", [], 3)
    assert outside(PermanentError("no")) == ("compensated", [], 1)


def test_past_its_deadline_in_doubt(outside, app_engine):
    def late(saga):
        with app_engine.database.transaction() as connection:
            connection.execute(text("UPDATE sagas SET useful_until = saga_now()"))

    assert outside(LOST, hook=late) == ("compensated", [], 2)


# --- in doubt, and waiting for its next attempt, when the saga turns round for another reason ---


@pytest.fixture
def waits_in_doubt(throwaway):
    """A saga whose step got through, lost the answer and waits for its next attempt; what stands, and its handle."""

    def go(**more):
        standing: list[str] = []

        def call(self, key):
            first = not standing
            standing[:] = [key]
            if first:
                raise LOST
            return key

        act = step(external=True, idempotent=True, retry=QUICK, parallel=bool(more))(call)
        act.compensation(lambda self, result: standing.remove(result))
        kind = throwaway.kind(begin=step(irreversible=True)(lambda self, db: None), **more, act=act)
        handle = record(kind, {})
        for name in ("begin", "act"):
            throwaway.engine.executor.forward(kind, kind.definition.step(name), handle.id)
        assert handle.record().steps["act"].state == "waiting"
        assert len(standing) == 1
        return handle, standing

    return go


def test_cancelled_while_one_in_doubt_waits_for_its_next_attempt(throwaway, waits_in_doubt):
    handle, standing = waits_in_doubt()
    handle.cancel(who="Op", why="not wanted any more")
    assert throwaway.sweep(handle) == "compensated"
    assert standing == []


def test_another_one_fails_while_one_in_doubt_waits_for_its_next_attempt(throwaway, waits_in_doubt):
    fails = step(irreversible=True)(lambda self, db: 1 / 0)
    handle, standing = waits_in_doubt(fails=fails)
    assert throwaway.sweep(handle) == "compensated"
    assert standing == []


def test_a_pivot_in_doubt_that_waits_for_its_next_attempt_is_not_cancelled(throwaway):
    def call(self, key):
        raise LOST

    handle = throwaway.record(act=step(external=True, idempotent=True, pivot=True, retry=QUICK)(call))
    kind = throwaway.engine.kinds[handle.record().name]
    throwaway.engine.executor.forward(kind, kind.definition.step("act"), handle.id)
    assert handle.record().steps["act"].state == "waiting"
    with pytest.raises(RemedyRefused, match=r"past the pivot \(step act\)"):
        handle.cancel(who="Op", why="not wanted any more")
