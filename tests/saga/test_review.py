"""Manual review: every way into it, and what each remedy then does (SPEC 3; docs/design.md, Manual review)."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace

import pytest
from sqlalchemy import text

from sagajobs.errors import (
    CaseClosed,
    CaseNotFound,
    InvalidInput,
    PermanentError,
    RemedyRefused,
    SagaNotFound,
    TransientError,
)
from sagajobs.saga import SagaHandle, faultpoints, step
from sagajobs.saga.act import Verdict
from sagajobs.saga.faultpoints import Point
from sagajobs.saga.remedies import Remedy
from sagajobs.saga.states import SagaState
from tests.saga import cases
from tests.support.sagas import QUICK, Killed, Pivoting, Scripted, record
from tests.support.tables import dump

R, S, D, U, A = Remedy.RETRY, Remedy.SKIP, Remedy.MARK_DONE, Remedy.MARK_UNDONE, Remedy.ABANDON
SIGNED = {"who": "Op", "why": "looked at it"}

TAKES = {
    cases.exhausted_local: ("every attempt died at work", {R, S, D, U, A}),
    cases.exhausted_external: ("every attempt died at work", {R, S, D, U, A}),
    cases.past_the_pivot: ("failed past the pivot", {R, S, D, A}),
    cases.in_doubt_forward: ("nothing can tell whether it happened", {R, D, U, A}),
    cases.in_doubt_past_the_pivot: ("nothing can tell whether it happened", {R, D, U, A}),
    cases.in_doubt_backward: ("nothing can tell whether it happened", {R, D, U, A}),
    cases.unrecorded: ("done outside, refused here", {R, S, A}),
    cases.not_undone: ("an undo failed", {R, U, A}),
    cases.not_undone_locally: ("an undo failed", {R, U, A}),
    cases.tried_in_vain: ("tried again in vain", {R, S, D, A}),
    cases.not_even_marked: ("it could not even be marked for retry", {R, S, D, A}),
    cases.not_taken_up: ("the code cannot take it up", {R, A}),
    cases.condition_raises: ("the code cannot take it up", {R, A}),
    cases.still_not_taken_up: ("the code cannot take it up", {A}),
    cases.unknown_kind: ("no code knows this kind of saga", {A}),
    cases.process_gone: ("the process that ran it is gone", {D, U, A}),
    cases.process_could_not_undo: ("an undo failed", {U, A}),
}
"""What a case is about, its reason, and the remedies that make sense."""

ENDS = {
    (cases.exhausted_local, R): "completed",
    (cases.exhausted_local, S): "completed",
    (cases.exhausted_local, D): "completed",
    (cases.exhausted_local, U): "compensated",
    (cases.exhausted_external, R): "completed",
    (cases.exhausted_external, S): "completed",
    (cases.exhausted_external, D): "completed",
    (cases.exhausted_external, U): "compensated",
    (cases.past_the_pivot, R): "completed",
    (cases.past_the_pivot, S): "completed",
    (cases.past_the_pivot, D): "completed",
    (cases.in_doubt_forward, R): "completed",
    (cases.in_doubt_forward, D): "completed",
    (cases.in_doubt_forward, U): "compensated",
    (cases.in_doubt_past_the_pivot, R): "completed",
    (cases.in_doubt_past_the_pivot, D): "completed",
    (cases.in_doubt_past_the_pivot, U): "completed",
    (cases.in_doubt_backward, R): "compensated",
    (cases.in_doubt_backward, U): "compensated",
    (cases.unrecorded, R): "completed",
    (cases.unrecorded, S): "completed",
    (cases.not_undone, R): "compensated",
    (cases.not_undone, U): "compensated",
    (cases.not_undone_locally, R): "compensated",
    (cases.not_undone_locally, U): "compensated",
    (cases.tried_in_vain, R): "completed",
    (cases.tried_in_vain, S): "completed",
    (cases.tried_in_vain, D): "completed",
    (cases.not_even_marked, R): "completed",
    (cases.not_even_marked, S): "completed",
    (cases.not_even_marked, D): "completed",
    (cases.not_taken_up, R): "completed",
    (cases.process_gone, D): "completed",
    (cases.process_gone, U): "compensated",
    (cases.process_could_not_undo, U): "compensated",
}
"""Where the saga ends after a remedy, all else going well."""


def name(value) -> str:
    return getattr(value, "__name__", str(value))


def settle(engine, number: int, remedy: Remedy, **more):
    reference = {"reference": "by-hand-1"} if remedy is Remedy.MARK_DONE else {}
    return getattr(engine.review, remedy)(number, **{**reference, **SIGNED, **more})


@pytest.mark.parametrize("about", TAKES, ids=name)
def test_a_case_takes_the_remedies_that_make_sense_and_refuses_the_others(throwaway, app_engine, db, about):
    handle = about(throwaway)
    reason, expected = TAKES[about]
    case = app_engine.review.of(handle.id)
    assert (case.reason, case.open, case.saga_id) == (reason, True, handle.id)
    assert set(app_engine.review.options(case.number).resolutions) == expected
    before = dump(db)
    for remedy in set(Remedy) - expected:
        with pytest.raises(RemedyRefused) as refused:
            settle(app_engine, case.number, remedy)
        assert str(refused.value).startswith(f"case {case.number} takes no {remedy}: ")
        assert all(str(takes) in str(refused.value).rpartition("it takes ")[2] for takes in expected)
    assert dump(db) == before


@pytest.mark.parametrize(("about", "remedy"), ENDS, ids=name)
def test_a_remedy_brings_the_saga_to_its_end(throwaway, app_engine, db, about, remedy):
    handle = about(throwaway)
    case = app_engine.review.of(handle.id)
    throwaway.worker.raised.clear()
    settle(app_engine, case.number, remedy)
    throwaway.sweep(handle)
    assert handle.status() == ENDS[about, remedy]
    closed = app_engine.review.case(case.number)
    assert (closed.closed_by, closed.resolution, closed.why) == ("Op", remedy, "looked at it")
    (event,) = [line for line in app_engine.review.history(case.number) if line.event == "review_closed"]
    assert event.step == case.step
    assert event.detail.items() >= {"remedy": remedy, "who": "Op", "why": "looked at it"}.items()
    assert db.execute(text("SELECT count(*) FROM review_cases")).scalar_one() == 1
    assert throwaway.worker.raised == []


def test_every_remedy_that_a_case_takes_is_tried_above():
    tried = {(about, remedy) for about, remedy in ENDS} | {(cases.in_doubt_backward, D), (cases.condition_raises, R)}
    assert tried == {(about, remedy) for about, (_, takes) in TAKES.items() for remedy in takes - {A}}


@pytest.mark.parametrize("about", TAKES, ids=name)
def test_an_abandoned_saga_stays_where_it_is_for_good(throwaway, app_engine, db, about):
    handle = about(throwaway)
    before = handle.record()
    case = app_engine.review.of(handle.id)
    settle(app_engine, case.number, A)
    after = handle.record()
    assert after.state == "manual_review_required"
    assert replace(after, steps={}) == replace(before, steps={}, hints=0)
    assert {glance.name: glance.state for glance in after.steps.values()} == {
        glance.name: glance.state for glance in before.steps.values()
    }
    assert db.execute(text("SELECT ended_at IS NOT NULL FROM sagas")).scalar_one()
    for remedy in Remedy:
        with pytest.raises(CaseClosed, match="abandon"):
            settle(app_engine, case.number, remedy)
    assert app_engine.review.cases() == []


# --- what the ends do not show ---


def test_what_is_undone_by_hand_before_the_pivot_has_the_rest_undone(throwaway, app_engine, world):
    handle = cases.in_doubt_forward(throwaway)
    settle(app_engine, app_engine.review.of(handle.id).number, U)
    assert world.local(handle.id) == ["first", "undo_first"]
    assert "cancel" not in world.acts(handle.id), "what a person has undone is not undone again"
    assert handle.record().steps["call"].state == "undone"


def test_what_is_undone_by_hand_past_the_pivot_is_done_again(throwaway, app_engine):
    handle = cases.in_doubt_past_the_pivot(throwaway)
    settle(app_engine, app_engine.review.of(handle.id).number, U)
    assert (handle.status(), handle.record().results["call"]) == ("completed", {"did": True})


def test_done_by_hand_while_undoing_it_is_undone_next(throwaway, app_engine, world):
    handle = cases.in_doubt_backward(throwaway)
    case = app_engine.review.of(handle.id)
    Scripted.definition.step("call").taker = lambda self, reference: {"key": f"{self.id}/call", "seen": reference}
    try:
        settle(app_engine, case.number, D)
    finally:
        Scripted.definition.step("call").taker = None
    assert handle.status() == "compensated"
    assert world.acts(handle.id).count("cancel") == 1
    assert not world.stands(f"{handle.id}/call")


def test_a_retry_looks_again_and_finds_what_stands(throwaway, app_engine, world):
    handle = cases.in_doubt_forward(throwaway)
    settle(app_engine, app_engine.review.of(handle.id).number, R)
    throwaway.sweep(handle)
    assert world.acts(handle.id).count("book") == 1, "found, not booked twice"
    assert handle.record().results["call"]["found"] is True


def test_a_retry_gives_every_attempt_again(throwaway, app_engine, world):
    handle = cases.until_asked(throwaway, record(Scripted, {"script": {"first": ["killed"] * 5 + ["ok"]}}))
    with contextlib.suppress(Killed):
        settle(app_engine, app_engine.review.of(handle.id).number, R)
    cases.until_asked(throwaway, handle)
    assert world.acts(handle.id).count("try:first") == 5, "two after a first one that may have been made, then three"
    assert len(app_engine.review.cases()) == 1
    settle(app_engine, app_engine.review.of(handle.id).number, R)
    assert throwaway.sweep(handle) == "completed"


def test_the_local_writes_of_a_step_done_by_hand_are_made_with_it(throwaway, app_engine, world):
    handle = cases.exhausted_external(throwaway)
    settle(app_engine, app_engine.review.of(handle.id).number, D)
    assert "note_call" in world.local(handle.id)
    assert handle.record().results["call"] == {"reference": "by-hand-1"}


def test_local_writes_that_are_refused_leave_everything_as_it_was(throwaway, app_engine, db):
    handle = cases.until_asked(throwaway, record(Scripted, {"script": {"call": ["killed"] * 3, "note_call": ["bug"]}}))
    case = app_engine.review.of(handle.id)
    before = dump(db, without=("test_world",))  # the world outside counts what was tried
    with pytest.raises(RemedyRefused, match=r"note_call.*KeyError") as refused:
        settle(app_engine, case.number, D)
    assert "confidential" not in str(refused.value)
    assert dump(db, without=("test_world",)) == before
    settle(app_engine, case.number, S)


@pytest.mark.parametrize("error", [PermanentError("that is another customer's"), TransientError("not now")])
def test_a_reference_that_its_author_refuses_changes_nothing(throwaway, app_engine, db, error):
    handle = cases.exhausted_external(throwaway)
    case = app_engine.review.of(handle.id)

    def refuse(self, reference):
        raise error

    before = dump(db)
    Scripted.definition.step("call").taker = refuse
    try:
        with pytest.raises(type(error), match=str(error)):
            settle(app_engine, case.number, D)
    finally:
        Scripted.definition.step("call").taker = None
    assert dump(db) == before
    settle(app_engine, case.number, A)


def test_a_saga_that_was_retried_and_went_well_shows_no_error(throwaway, app_engine):
    handle = cases.past_the_pivot(throwaway)
    settle(app_engine, app_engine.review.of(handle.id).number, R)
    assert handle.record().error is None
    assert handle.result() is not None


def test_locks_are_let_go_of_when_a_remedy_ends_the_saga(throwaway, app_engine, db):
    class Locking(Pivoting):
        name = "throwaway_locking"

        def locks(self):
            return ["thing:1"]

    app_engine.register(Locking, Pivoting.services)
    first = cases.until_asked(throwaway, record(Locking, {"script": {"after": ["permanent"]}}))
    second = record(Locking, {})
    throwaway.let_time_pass()
    throwaway.sweep(second, rounds=1)
    assert second.status() == "pending"
    settle(app_engine, app_engine.review.of(first.id).number, A)
    assert second.status() == "completed", "it is told at once"
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0


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

    faultpoints.install(fail_now)
    try:
        app_engine.executor.forward(kind, failing, handle.id)
    finally:
        faultpoints.install(None)
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
            assert answered.wait(20)

    in_flight = threading.Thread(target=deliver, args=("fails",))
    faultpoints.install(hook)
    try:
        in_flight.start()
        assert claimed.wait(20)
        while handle.status() != "manual_review_required":
            with app_engine.database.transaction() as connection:
                connection.execute(text("UPDATE saga_steps SET lease_until = NULL, due_at = NULL WHERE name = 'asked'"))
            deliver("asked")
        with app_engine.database.transaction() as connection:
            case = app_engine.review.of(handle.id).number
            app_engine.review._lock(connection, case)
            answered.set()
            waits = text(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%saga_steps%'"
            )
            while not db.execute(waits).scalar_one():
                assert in_flight.is_alive()
            connection.execute(
                text("UPDATE review_cases SET closed_at = saga_now(), closed_by = 'Op', resolution = 'abandon'")
            )
            connection.execute(text("UPDATE sagas SET ended_at = saga_now() WHERE id = :id"), {"id": handle.id})
        in_flight.join(20)
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
        start.wait(10)
        try:
            came.append((who, settle(app_engine, case.number, remedy, who=who)))
        except CaseClosed as error:
            came.append((who, error))

    threads = [threading.Thread(target=act, args=args) for args in (("Ann", R), ("Bob", second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
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
        waits = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%saga_steps%'"
        )
        while not db.execute(waits).scalar_one():
            assert thread.is_alive()
        connection.execute(
            text("UPDATE review_cases SET closed_at = saga_now(), closed_by = 'Early', resolution = 'abandon'")
        )
        connection.execute(text("UPDATE sagas SET ended_at = saga_now() WHERE id = :id"), {"id": handle.id})
    thread.join(20)
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

    faultpoints.install(others)
    try:
        outcome = app_engine.executor.forward(Scripted, Scripted.definition.step("call"), handle.id)
    finally:
        faultpoints.install(None)
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

    faultpoints.install(others)
    try:
        outcome = app_engine.executor.forward(Scripted, Scripted.definition.step("call"), handle.id)
    finally:
        faultpoints.install(None)
    assert outcome.verdict is Verdict.END
    assert dump(db, without=("test_world",)) == after[0]
    assert handle.record().steps["call"].state == "unknown"
    assert throwaway.sweep(handle) == "completed"


# --- the desk ---


def test_the_nearest_appointment_stands_first(throwaway, app_engine):
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    far, never, near = (
        cases.until_asked(
            throwaway,
            throwaway.record(
                pivot=step(pivot=True)(cases.nothing),
                act=step(cases.fails_then_works(ValueError())),
                useful_until=lambda self, until=until: until,
            ),
        )
        for until in (now + timedelta(days=3), None, now + timedelta(hours=2))
    )
    listed = app_engine.review.cases()
    assert [case.saga_id for case in listed] == [near.id, far.id, never.id]
    assert [case.saga_id for case in app_engine.review.cases(limit=1)] == [near.id]
    assert 7000 < listed[0].urgent_in < 7200


def test_a_new_case_says_what_the_saga_was_and_when_somebody_looks_and_is_alerted(throwaway, app_engine, db):
    from datetime import UTC, datetime, timedelta

    soon = datetime.now(UTC) + timedelta(minutes=70)
    throwaway_soon = throwaway.record(
        pivot=step(pivot=True)(cases.nothing),
        act=step(cases.fails_then_works(ValueError())),
        useful_until=lambda self: soon,
    )
    handles = [cases.past_the_pivot(throwaway), cases.not_undone(throwaway), cases.unknown_kind(throwaway)]
    handles.append(cases.until_asked(throwaway, throwaway_soon))
    rows = {
        str(row.saga_id): row
        for row in db.execute(
            text(
                "SELECT saga_id, was, extract(epoch FROM look_at - opened_at) AS look, "
                "extract(epoch FROM alert_at - opened_at) AS alert FROM review_cases"
            )
        )
    }
    assert [rows[handle.id].was for handle in handles] == ["running", "compensating", "pending", "running"]
    assert {float(row.look) for row in rows.values()} == {60.0}
    assert [float(rows[handle.id].alert) for handle in handles[:3]] == [900.0] * 3
    assert 570 < float(rows[handles[3].id].alert) < 600, "an hour before the appointment"


def test_who_and_why_are_required(throwaway, app_engine, db):
    case = app_engine.review.of(cases.past_the_pivot(throwaway).id)
    before = dump(db)
    for remedy in Remedy:
        for missing in ({"who": " "}, {"why": ""}, {"who": "a\nb"}, {"why": "nul \0"}):
            with pytest.raises(InvalidInput, match=next(iter(missing))):
                settle(app_engine, case.number, remedy, **missing)
    with pytest.raises(InvalidInput, match="reference"):
        settle(app_engine, case.number, D, reference=" ")
    assert dump(db) == before
    settle(app_engine, case.number, A)


def test_cases_and_sagas_that_there_are_not(app_engine, world):
    for number in (0, 4711, 2**80):
        with pytest.raises(CaseNotFound, match=str(number)):
            app_engine.review.case(number)
    with pytest.raises(SagaNotFound):
        app_engine.review.of("no id")
    handle = record(Scripted, {})
    app_engine.drive(Scripted, handle.id)
    with pytest.raises(CaseNotFound, match=handle.id):
        app_engine.review.of(handle.id)


def test_a_case_shows_nothing_private_in_its_repr(throwaway, app_engine):
    case = app_engine.review.of(cases.past_the_pivot(throwaway).id)
    assert "confidential detail" in str(case.evidence)
    assert "confidential" not in repr(case)
    settle(app_engine, case.number, A, why="the customer is confidential")
    assert "confidential" not in repr(app_engine.review.case(case.number))


def test_a_paused_saga_takes_no_remedy_until_it_is_resumed(throwaway, app_engine):
    handle = record(Pivoting, {"script": {"after": ["permanent", "ok"]}})
    for named in ("before", "pivot"):
        app_engine.executor.forward(Pivoting, Pivoting.definition.step(named), handle.id)

    def pause(point, _saga_id, named):
        if (point, named) == (Point.AFTER_CLAIM, "after"):
            handle.pause(**SIGNED)

    faultpoints.install(pause)
    try:
        app_engine.executor.forward(Pivoting, Pivoting.definition.step("after"), handle.id)
    finally:
        faultpoints.install(None)
    case = app_engine.review.of(handle.id)
    assert (case.state, case.was, case.open) == (SagaState.PAUSED, "running", True)
    with pytest.raises(RemedyRefused, match="resume it first"):
        settle(app_engine, case.number, R)
    assert handle.resume(**SIGNED) == "manual_review_required"
    settle(app_engine, case.number, R)
    assert handle.status() == "completed"


def test_another_process_settles_it(throwaway, app_engine):
    handle = cases.past_the_pivot(throwaway)
    assert SagaHandle(handle.id).engine.review.of(handle.id).reason == "failed past the pivot"
    settle(app_engine, app_engine.review.of(handle.id).number, S)
    assert handle.record().steps["after"].state == "skipped"
