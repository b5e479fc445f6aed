"""External steps without a probe, idempotent by their author's word: what may stand is never called undone (G4)."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs.errors import PermanentError, RemedyRefused, TransientError
from sagajobs.saga import step
from sagajobs.saga.explain import explain_cancel
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


def test_what_a_cancel_would_do_is_told_of_one_that_waits_in_doubt(waits_in_doubt, app_engine):
    handle, _ = waits_in_doubt()
    told = explain_cancel(app_engine, handle.id)
    assert [(act.step, act.act) for act in told.follows] == [("act", "run")]
    assert told.changes == ("saga: running → compensating",), "not yet compensated: it is settled first"


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


# --- nothing could undo it: what may stand is a person's, and never part of a saga that is called compensated ---


@pytest.fixture
def beyond_undo(throwaway, app_engine):
    """Have a saga carried out whose last step has neither probe nor undo, below it one with an undo."""

    def go(*script: Exception, hook=lambda saga: None, **options: bool):
        undone, calls = [], []

        def call(self, key):
            calls.append(key)
            hook(self)
            if len(calls) <= len(script):
                raise script[len(calls) - 1]

        reserve = step(lambda self, db: None)
        reserve.compensation(lambda self, db: undone.append("reserve"))
        act = step(external=True, idempotent=True, retry=QUICK, **options)(call)
        handle = throwaway.record(reserve=reserve, act=act)
        return throwaway.sweep(handle), undone, handle

    return go


@pytest.mark.parametrize("option", ["pivot", "irreversible"])
@pytest.mark.parametrize("script", [(LOST, PermanentError("no more")), (LOST, LOST, LOST)], ids=["refused", "used up"])
def test_in_doubt_and_beyond_undo_is_a_persons(beyond_undo, app_engine, option, script):
    state, undone, handle = beyond_undo(*script, **{option: True})
    assert (state, undone) == ("manual_review_required", [])
    case = app_engine.review.of(handle.id)
    assert (case.step, case.reason) == ("act", "nothing can tell whether it happened")
    assert set(app_engine.review.options(case.number).resolutions) == {"retry", "mark_done", "mark_undone", "abandon"}


def test_in_doubt_and_beyond_undo_past_its_deadline(beyond_undo, app_engine):
    def late(saga):
        with app_engine.database.transaction() as connection:
            connection.execute(text("UPDATE sagas SET useful_until = saga_now()"))

    state, undone, _ = beyond_undo(LOST, hook=late, pivot=True)
    assert (state, undone) == ("manual_review_required", [])


def test_the_doubt_outlives_a_persons_retry(beyond_undo, throwaway, app_engine):
    _, undone, handle = beyond_undo(LOST, PermanentError("no more"), PermanentError("still"), pivot=True)
    app_engine.review.retry(app_engine.review.of(handle.id).number, who="Op", why="they are back")
    assert (throwaway.sweep(handle), undone) == ("manual_review_required", [])
    app_engine.review.mark_undone(app_engine.review.of(handle.id).number, who="Op", why="looked there: nothing")
    assert (throwaway.sweep(handle), undone) == ("compensated", ["reserve"])


def test_without_a_doubt_a_pivot_that_fails_is_undone(beyond_undo):
    state, undone, _ = beyond_undo(PermanentError("no"), pivot=True)
    assert (state, undone) == ("compensated", ["reserve"])


def test_an_optional_one_in_doubt_and_beyond_undo_may_stand_or_not(beyond_undo):
    state, undone, _ = beyond_undo(LOST, PermanentError("no more"), optional=True)
    assert (state, undone) == ("completed", [])


def test_cancelled_while_one_beyond_undo_waits_in_doubt_is_settled_by_one_more(throwaway):
    calls = []

    def call(self, key):
        calls.append(key)
        if len(calls) == 1:
            raise LOST

    handle = throwaway.record(act=step(external=True, idempotent=True, irreversible=True, retry=QUICK)(call))
    kind = throwaway.engine.kinds[handle.record().name]
    throwaway.engine.executor.forward(kind, kind.definition.step("act"), handle.id)
    handle.cancel(who="Op", why="not wanted any more")
    assert throwaway.sweep(handle) == "compensated"
    assert (handle.record().steps["act"].state, len(calls)) == ("done", 2), "it stands, on record, as it was declared"


def test_an_optional_pivot_that_failed_in_doubt_is_past_cancelling(throwaway):
    script = [LOST, PermanentError("no more")]

    def call(self, key):
        raise script.pop(0)

    act = step(external=True, idempotent=True, pivot=True, optional=True, retry=QUICK)(call)
    handle = throwaway.record(act=act, after=step(lambda self, db: None))
    kind = throwaway.engine.kinds[handle.record().name]
    for _ in range(2):
        throwaway.let_time_pass()
        throwaway.engine.executor.forward(kind, kind.definition.step("act"), handle.id)
    assert handle.record().steps["act"].state == "failed"
    with pytest.raises(RemedyRefused, match=r"past the pivot \(step act\)"):
        handle.cancel(who="Op", why="not wanted any more")


def test_a_sibling_in_doubt_and_beyond_undo_is_asked_about_in_its_own_words(throwaway, app_engine):
    """Two side by side: the first is asked about; once it is settled the other is, by its own reason."""

    def lost_then_refused():
        script = [LOST, PermanentError("no more")]

        def call(self, key):
            if script:
                raise script.pop(0)

        return call

    how = {"external": True, "idempotent": True, "irreversible": True, "retry": QUICK}
    begin = step(irreversible=True)(lambda self, db: None)
    one = step(**how)(lost_then_refused())
    two = step(**how, parallel=True)(lost_then_refused())
    handle = throwaway.record(begin=begin, one=one, two=two)
    kind = throwaway.engine.kinds[handle.record().name]
    for name in ("begin", "one", "two", "one"):
        throwaway.let_time_pass()
        throwaway.engine.executor.forward(kind, kind.definition.step(name), handle.id)
    assert handle.status() == "manual_review_required"
    with app_engine.database.transaction() as connection:  # as it comes back while the person is asked
        connection.execute(
            text(
                "UPDATE saga_steps SET state = 'failed', error = error || '{\"in_doubt\": true}' "
                "WHERE saga_id = CAST(:id AS uuid) AND name = 'two'"
            ),
            {"id": handle.id},
        )
    first = app_engine.review.of(handle.id)
    app_engine.review.mark_done(first.number, reference="theirs", who="Op", why="it is there")
    second = app_engine.review.of(handle.id)
    assert (second.step, second.reason, second.open) == ("two", "nothing can tell whether it happened", True)
