"""Manual review while others are at work: steps side by side, two operators at once, workers that wake too late."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from sagajobs.errors import CaseClosed, PermanentError
from sagajobs.saga import faultpoints, step
from sagajobs.saga.act import Verdict
from sagajobs.saga.faultpoints import Point
from tests.saga import cases
from tests.saga.cases import A, D, R, S, U, settle
from tests.support.sagas import QUICK, Scripted, record
from tests.support.tables import dump


def await_waiting(db, thread: threading.Thread) -> None:
    """Wait until what a thread does has come to a step's row that is locked."""
    waits = text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
            AND (query LIKE '%saga_steps%' OR query LIKE '%sagajobs_write%')
    """)
    while not db.execute(waits).scalar_one():
        assert thread.is_alive()


def abandon(connection, handle, who: str) -> None:
    """Close the case and end the saga, in a transaction that holds both."""
    closed = text("UPDATE review_cases SET closed_at = saga_now(), closed_by = :who, resolution = 'abandon'")
    connection.execute(closed, {"who": who})
    connection.execute(text("UPDATE sagas SET ended_at = saga_now() WHERE id = :id"), {"id": handle.id})


# --- siblings ---


def _beside(throwaway, app_engine, **options):
    """A saga asked about one of two steps side by side, the other of which fails while the person is asked."""
    asked = step(external=True, retry=QUICK, **options)(cases.fails_then_works(TimeoutError()))
    asked.probe(looks=1, over=0, retry=cases.ONCE)(cases.fails_then_works(TimeoutError()))
    fails = step(external=True, idempotent=True, parallel=True, retry=QUICK, **options)(
        cases.fails_then_works(PermanentError(), 1)
    )
    pivot = options == {}
    if not pivot:
        handle = throwaway.record(asked=asked, fails=fails)
    else:
        handle = throwaway.record(pivot=step(pivot=True)(cases.nothing), asked=asked, fails=fails)
        kind = app_engine.kinds[handle.record().name]
        app_engine.executor.forward(kind, kind.definition.step("pivot"), handle.id)
    kind = app_engine.kinds[handle.record().name]
    failing = kind.definition.step("fails")

    def fail_now(point, _saga_id, name):
        if (point, name) == (Point.AFTER_CLAIM, "fails"):
            while handle.status() != "manual_review_required":
                throwaway.let_time_pass()
                app_engine.executor.forward(kind, kind.definition.step("asked"), handle.id)

    with faultpoints.installed(fail_now):
        app_engine.executor.forward(kind, failing, handle.id)
    assert handle.record().steps["fails"].state == "failed"
    return handle, app_engine.review.of(handle.id)


def test_a_step_that_failed_beside_it_meanwhile_turns_the_saga_round(throwaway, app_engine):
    handle, case = _beside(throwaway, app_engine, irreversible=True)
    assert settle(app_engine, case.number, D).state == "compensating"
    assert throwaway.sweep(handle) == "compensated"


def test_one_that_may_stand_though_every_attempt_died_is_asked_about_next(throwaway, app_engine):
    """Its attempts are found used up in the moment in which a person is asked about the other one."""
    standing: list[str] = []
    asked = step(external=True, retry=QUICK, irreversible=True)(cases.fails_then_works(TimeoutError()))
    asked.probe(looks=1, over=0, retry=cases.ONCE)(cases.fails_then_works(TimeoutError()))
    dies = step(external=True, idempotent=True, parallel=True, retry=QUICK)(lambda _saga, key: standing.append(key))
    dies.compensation(lambda _saga, _result: standing.clear())
    kind = throwaway.kind(first=step(irreversible=True)(cases.nothing), asked=asked, dies=dies)
    handle = record(kind, {})
    app_engine.executor.forward(kind, kind.definition.step("first"), handle.id)
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE saga_steps SET state = 'running', attempts = 3 WHERE name = 'dies'"))

    class Meanwhile:
        """Exhausting looks at the policy once more, after the look and before the write."""

        def __bool__(self) -> bool:
            while handle.status() == "running":
                with app_engine.database.transaction() as connection:
                    connection.execute(text("UPDATE saga_steps SET due_at = NULL WHERE name = 'asked'"))
                app_engine.executor.forward(kind, kind.definition.step("asked"), handle.id)
            return False

    dies.optional = Meanwhile()
    app_engine.executor.forward(kind, kind.definition.step("dies"), handle.id)
    dies.optional = False
    case = app_engine.review.of(handle.id)
    assert (case.step, handle.record().steps["dies"].state) == ("asked", "failed")
    assert settle(app_engine, case.number, D).state == "manual_review_required"
    after = app_engine.review.of(handle.id)
    assert (after.step, after.reason, after.open) == ("dies", "every attempt died at work", True)
    settle(app_engine, after.number, R)
    assert throwaway.sweep(handle) == "completed"
    assert len(standing) == 1


def test_past_the_pivot_a_person_is_asked_about_it_next(throwaway, app_engine):
    handle, case = _beside(throwaway, app_engine)
    assert settle(app_engine, case.number, D).state == "manual_review_required"
    after = app_engine.review.of(handle.id)
    assert (after.step, after.reason, after.open) == ("fails", "failed past the pivot", True)
    settle(app_engine, after.number, R)
    assert throwaway.sweep(handle) == "completed"


def test_one_that_fails_in_the_moment_of_an_abandon_opens_no_case_about_an_ended_saga(throwaway, app_engine, db):
    """Nobody could ever close it: every remedy needs a saga that still waits for a person."""
    asked = step(external=True, retry=QUICK)(cases.fails_then_works(TimeoutError()))
    asked.probe(looks=1, over=0, retry=cases.ONCE)(cases.fails_then_works(TimeoutError()))
    fails = step(external=True, idempotent=True, parallel=True)(cases.fails_then_works(PermanentError(), 1))
    handle = throwaway.record(pivot=step(pivot=True)(cases.nothing), asked=asked, fails=fails)
    kind = app_engine.kinds[handle.record().name]

    def deliver(named: str) -> None:
        app_engine.executor.forward(kind, kind.definition.step(named), handle.id)

    deliver("pivot")
    claimed, answered = threading.Event(), threading.Event()

    def hook(point, _saga_id, named):
        if (point, named) == (Point.AFTER_CLAIM, "fails"):
            claimed.set()
            assert answered.wait(60)

    in_flight = threading.Thread(target=deliver, args=("fails",))
    faultpoints.install(hook)
    try:
        in_flight.start()
        assert claimed.wait(60)
        while handle.status() != "manual_review_required":
            with app_engine.database.transaction() as connection:
                connection.execute(text("UPDATE saga_steps SET lease_until = NULL, due_at = NULL WHERE name = 'asked'"))
            deliver("asked")
        with app_engine.database.transaction() as connection:
            case = app_engine.review.of(handle.id).number
            app_engine.review._lock(connection, case)
            answered.set()
            await_waiting(db, in_flight)
            abandon(connection, handle, "Op")
        in_flight.join(60)
    finally:
        faultpoints.install(None)
        answered.set()
    assert handle.record().steps["fails"].state == "failed"
    assert db.execute(text("SELECT count(*) FROM review_cases WHERE closed_at IS NULL")).scalar_one() == 0


# --- two at once, and zombies ---


@pytest.mark.parametrize("second", [R, S, U, A])
def test_of_two_operators_at_once_one_wins_and_the_other_is_told(throwaway, app_engine, db, second):
    handle = cases.exhausted_external(throwaway)
    case = app_engine.review.of(handle.id)
    app_engine.publisher = None  # nobody carries it on while we look
    came: list = []
    start = threading.Barrier(2)

    def act(who, remedy):
        start.wait(60)
        try:
            came.append((who, settle(app_engine, case.number, remedy, who=who)))
        except CaseClosed as error:
            came.append((who, error))

    threads = [threading.Thread(target=act, args=args) for args in (("Ann", R), ("Bob", second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    won = [who for who, outcome in came if not isinstance(outcome, CaseClosed)]
    told = [str(outcome) for _, outcome in came if isinstance(outcome, CaseClosed)]
    assert (len(won), len(told)) == (1, 1)
    assert told[0].startswith(f"case {case.number} was settled by {won[0]} at ")
    assert db.execute(text("SELECT count(*) FROM saga_events WHERE event = 'review_closed'")).scalar_one() == 1


def test_the_loser_waits_for_the_winner_and_writes_nothing(throwaway, app_engine, db):
    """The second one begins while the first one's transaction is open: it must not read what is about to be old."""
    handle = cases.exhausted_external(throwaway)
    case = app_engine.review.of(handle.id)
    told: list[str] = []

    def late():
        try:
            settle(app_engine, case.number, S, who="Late")
        except CaseClosed as error:
            told.append(str(error))

    thread = threading.Thread(target=late)
    with app_engine.database.transaction() as connection:
        opened = app_engine.review._lock(connection, case.number)
        assert opened.case.number == case.number
        thread.start()
        await_waiting(db, thread)
        abandon(connection, handle, "Early")
    thread.join(60)
    assert len(told) == 1
    assert "settled by Early" in told[0]
    assert handle.record().steps["call"].state == "failed"


@pytest.mark.parametrize("remedy", [R, D, U, A])
def test_a_worker_that_wakes_after_a_remedy_writes_nothing(throwaway, app_engine, world, db, remedy):
    """Frozen in its call; meanwhile its lease ended, nothing could tell, and a person has settled it."""
    handle = record(Scripted, {"script": {"find": ["timeout"] * 3 + ["ok"], "call": ["book+ok"]}})
    app_engine.executor.forward(Scripted, Scripted.definition.step("first"), handle.id)
    after: list = []

    def others(point, _saga_id, name):
        if (point, name) == (Point.AFTER_CALL, "call") and not after:
            after.append(None)
            cases.until_asked(throwaway, handle)
            settle(app_engine, app_engine.review.of(handle.id).number, remedy)
            throwaway.sweep(handle)
            after[0] = dump(db, without=("test_world",))

    with faultpoints.installed(others):
        outcome = app_engine.executor.forward(Scripted, Scripted.definition.step("call"), handle.id)
    assert outcome.verdict is Verdict.END
    assert dump(db, without=("test_world",)) == after[0]


def test_a_look_that_comes_back_after_a_retry_writes_nothing(throwaway, app_engine, world, db):
    """Frozen in its look, the last one that the step gets: between it and the remedy nobody else raises the fence."""
    handle = record(Scripted, {"script": {"call": ["book+timeout"]}})
    for named in ("first", "call"):
        app_engine.executor.forward(Scripted, Scripted.definition.step(named), handle.id)
    throwaway.let_time_pass()
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE saga_steps SET probes = 7 WHERE name = 'call'"))
    after: list = []

    def others(point, _saga_id, named):
        if (point, named) == (Point.AFTER_CLAIM, "call") and not after:
            after.append(None)
            throwaway.let_time_pass()
            app_engine.executor.forward(Scripted, Scripted.definition.step("call"), handle.id)
            app_engine.publisher = None
            settle(app_engine, app_engine.review.of(handle.id).number, R)
            app_engine.publisher = throwaway.worker
            after[0] = dump(db, without=("test_world",))

    with faultpoints.installed(others):
        outcome = app_engine.executor.forward(Scripted, Scripted.definition.step("call"), handle.id)
    assert outcome.verdict is Verdict.END
    assert dump(db, without=("test_world",)) == after[0]
    assert handle.record().steps["call"].state == "unknown"
    assert throwaway.sweep(handle) == "completed"
