"""Pausing, resuming and cancelling: at every state, and interleaved with a worker at the engine's fault points."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from sagajobs.errors import InvalidInput, RemedyRefused, SagaException, SagaNotFound
from sagajobs.saga import SagaOrchestrator, control, step
from sagajobs.saga.act import Verdict
from sagajobs.saga.faultpoints import Point
from tests.saga import cases
from tests.support.sagas import Pivoting, Scripted, record
from tests.support.tables import dump

SIGNED = {"who": "Op", "why": "the customer rang"}


def deliver(app_engine, handle, *names):
    """Carry out one delivery of each of these steps; return how the last one ended."""
    kind = app_engine.kinds[handle.record().name]
    for name in names:
        outcome = app_engine.executor.forward(kind, kind.definition.step(name), handle.id)
    return outcome


def pending(throwaway):
    return record(Scripted, {})


def running(throwaway):
    handle = record(Scripted, {})
    deliver(throwaway.engine, handle, "first")
    return handle


def compensating(throwaway):
    handle = record(Scripted, {"script": {"last": ["bug"]}})
    deliver(throwaway.engine, handle, "first", "call", "extra", "last")
    return handle


def partial(throwaway):
    """Past the pivot, marked for retry."""
    act = step(retry=cases.ONCE)(cases.fails_then_works(ValueError()))
    act.degradation(retry=cases.QUICK)(cases.nothing)
    handle = throwaway.record(pivot=step(pivot=True)(cases.nothing), act=act)
    deliver(throwaway.engine, handle, "pivot", "act")
    return handle


def completed(throwaway):
    handle = record(Scripted, {})
    throwaway.engine.drive(Scripted, handle.id)
    return handle


def compensated(throwaway):
    handle = record(Scripted, {"script": {"call": ["permanent"]}})
    throwaway.engine.drive(Scripted, handle.id)
    return handle


def paused(throwaway):
    handle = running(throwaway)
    handle.pause(**SIGNED)
    return handle


def manual_review_required(throwaway):
    return cases.past_the_pivot(throwaway)


STATES = [pending, running, compensating, partial, completed, compensated, paused, manual_review_required]
UNDER_WAY = {pending: "completed", running: "completed", compensating: "compensated", partial: "completed"}


def name(value) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize("state", STATES, ids=name)
def test_pausing_at_every_state(throwaway, app_engine, db, state):
    handle = state(throwaway)
    assert handle.status() == state.__name__
    if state not in UNDER_WAY:
        before = dump(db)
        with pytest.raises(RemedyRefused, match=f"{handle.id} is {state.__name__}: only one that is under way"):
            handle.pause(**SIGNED)
        assert dump(db) == before
        return
    assert handle.pause(**SIGNED) == "paused"
    before = dump(db)
    assert throwaway.sweep(handle) == "paused"
    for named in handle.record().steps:
        assert deliver(app_engine, handle, named).verdict is Verdict.END
    assert app_engine.executor.compensate(app_engine.kinds[handle.record().name], handle.id).verdict is Verdict.END
    assert dump(db) == before, "nothing begins"
    assert handle.resume(**SIGNED) == state.__name__
    assert throwaway.sweep(handle) == UNDER_WAY[state]


@pytest.mark.parametrize("state", STATES, ids=name)
def test_resuming_at_every_state(throwaway, db, state):
    handle = state(throwaway)
    before = dump(db)
    if state is paused:
        assert handle.resume(**SIGNED) == "running"
        assert throwaway.sweep(handle) == "completed"
        return
    with pytest.raises(RemedyRefused, match=f"is {state.__name__}: only one that is paused"):
        handle.resume(**SIGNED)
    assert dump(db) == before


REFUSED = {
    compensating: "it is being undone already",
    partial: "it is done outside and only goes forward",
    completed: "it is over",
    compensated: "it is over",
    manual_review_required: "settle its review case instead",
}


@pytest.mark.parametrize("state", STATES, ids=name)
def test_cancelling_at_every_state(throwaway, db, world, state):
    handle = state(throwaway)
    before = dump(db)
    if state in REFUSED:
        with pytest.raises(RemedyRefused, match=REFUSED[state]):
            handle.cancel(**SIGNED)
        assert dump(db) == before
        return
    assert handle.cancel(**SIGNED) == "compensating"
    assert throwaway.sweep(handle) == "compensated"
    assert not world.stands(f"{handle.id}/call")
    with pytest.raises(SagaException, match=r"was stopped \(Cancelled\) and was undone"):
        handle.result()


def test_each_act_is_a_line_of_history_with_who_and_why(throwaway, app_engine, db):
    handle = running(throwaway)
    handle.pause(**SIGNED)
    handle.resume(who="Ann", why="all clear")
    handle = running(throwaway)
    handle.cancel(**SIGNED)
    said = db.execute(text("SELECT event, detail FROM saga_events WHERE detail ? 'who' ORDER BY id")).all()
    assert [row.event for row in said] == ["saga_paused", "saga_resumed", "saga_cancelled"]
    assert said[1].detail == {"who": "Ann", "why": "all clear", "was": "paused", "to": "running"}
    assert said[2].detail == {"who": "Op", "why": "the customer rang", "was": "running"}


def test_who_and_why_are_required_and_the_saga_must_exist(throwaway, db):
    handle = running(throwaway)
    before = dump(db)
    for act in (handle.pause, handle.cancel, handle.resume):
        with pytest.raises(InvalidInput, match="why"):
            act(who="Op", why=" ")
    for act in (control.pause, control.resume, control.cancel):
        with pytest.raises(SagaNotFound):
            act(throwaway.engine, "00000000-0000-0000-0000-000000000000", **SIGNED)
        with pytest.raises(SagaNotFound):
            act(throwaway.engine, "no id", **SIGNED)
    assert dump(db) == before


def test_an_orchestrated_saga_is_its_process_own(throwaway, app_engine):
    orchestrator = SagaOrchestrator("by_hand", engine=app_engine)
    for act in (control.pause, control.cancel):
        with pytest.raises(RemedyRefused, match="a process of its own"):
            act(app_engine, orchestrator.id, **SIGNED)


# --- interleaved ---


@pytest.mark.parametrize("act", ["pause", "cancel"])
@pytest.mark.parametrize("named", ["first", "call"])
def test_after_the_commit_of_a_pause_or_cancel_nothing_is_claimed(
    throwaway, app_engine, world, act, named, monkeypatch
):
    """The worker has looked at the saga while it was running, and comes to claim the step when it is not any more."""
    handle = record(Scripted, {})
    if named == "call":
        deliver(app_engine, handle, "first")
    kind, looked = Scripted, []
    check = kind.definition.check

    def check_and_then(record):
        check(record)
        if not looked:
            looked.append(True)
            getattr(handle, act)(**SIGNED)

    app_engine.publisher = None
    with monkeypatch.context() as patch:
        patch.setattr(type(kind.definition), "check", lambda _self, record: check_and_then(record))
        outcome = deliver(app_engine, handle, named)
    assert outcome.verdict is Verdict.END
    assert named not in world.local(handle.id)
    assert handle.record().steps[named].state == "waiting"
    assert "try:call" not in world.acts(handle.id), "no call was made"
    app_engine.publisher = throwaway.worker
    if act == "pause":
        handle.resume(**SIGNED)
    assert throwaway.sweep(handle) == {"pause": "completed", "cancel": "compensated"}[act]


ANSWERS = {
    "ok": ({}, "running"),
    "transient": ({"call": ["transient", "ok"]}, "running"),
    "timeout": ({"call": ["book+timeout", "ok"]}, "running"),
    "refused": ({"call": ["permanent"]}, "compensating"),
    "unrecordable": ({"note_call": ["bug"]}, "compensating"),
}
"""How a call is answered, and what the saga then is about to do."""

POINTS = [
    (answer, point)
    for answer in ANSWERS
    for point in (Point.AFTER_CLAIM, Point.AFTER_CALL, Point.AFTER_COMMIT)
    if point is not Point.AFTER_CALL or answer in ("ok", "unrecordable")  # a call that fails does not come there
]


@pytest.mark.parametrize(("answer", "point"), POINTS)
def test_what_was_in_flight_when_it_was_paused_is_on_record(throwaway, app_engine, world, at, answer, point):
    script, meant = ANSWERS[answer]
    handle = record(Scripted, {"script": script})
    deliver(app_engine, handle, "first")
    at(point, "call", lambda: handle.pause(**SIGNED))
    deliver(app_engine, handle, "call")
    assert throwaway.sweep(handle) == "paused"
    assert handle.resume(**SIGNED) == meant
    assert throwaway.sweep(handle) == {"running": "completed", "compensating": "compensated"}[meant]
    assert world.acts(handle.id).count("book") <= 1
    assert world.stands(f"{handle.id}/call") == (meant == "running")
    assert throwaway.worker.raised == []


def test_a_pause_that_comes_while_a_worker_commits_waits_for_it(throwaway, app_engine, db, at):
    handle = running(throwaway)
    thread = threading.Thread(target=lambda: handle.pause(**SIGNED))

    def begin_and_wait():
        thread.start()
        blocked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sagas%'")
        while not db.execute(blocked).scalar_one():
            assert thread.is_alive()

    at(Point.BEFORE_COMMIT, "call", begin_and_wait)
    deliver(app_engine, handle, "call")
    thread.join(60)
    assert (handle.status(), handle.record().steps["call"].state) == ("paused", "done")
    assert handle.resume(**SIGNED) == "running"
    assert throwaway.sweep(handle) == "completed"


def test_paused_while_the_last_step_finishes_it_completes_when_it_is_resumed(throwaway, app_engine, db, at):
    call = step(external=True, idempotent=True, irreversible=True)(lambda self, key: {"key": key})
    handle = throwaway.record(call=call)
    at(Point.AFTER_CALL, "call", lambda: handle.pause(**SIGNED))
    deliver(app_engine, handle, "call")
    assert (handle.status(), handle.record().steps["call"].state) == ("paused", "done")
    assert handle.resume(**SIGNED) == "completed"
    assert handle.status() == "completed"
    assert handle.result() == {"call": {"key": f"{handle.id}/call"}}
    history = db.execute(text("SELECT event FROM saga_events ORDER BY id")).scalars().all()
    assert history[-2:] == ["saga_resumed", "saga_completed"]


def test_paused_while_the_last_undo_finishes_it_is_compensated_when_it_is_resumed(throwaway, app_engine, at):
    handle = record(Scripted, {"script": {"call": ["permanent"]}})
    deliver(app_engine, handle, "first", "call")
    at(Point.AFTER_CALL, "first", lambda: handle.pause(**SIGNED))
    app_engine.executor.compensate(Scripted, handle.id)
    assert handle.status() == "paused"
    assert handle.resume(**SIGNED) == "compensated"
    assert handle.status() == "compensated"


def test_paused_while_it_comes_to_need_a_person_it_does_when_it_is_resumed(throwaway, app_engine, at):
    handle = record(Scripted, {"script": {"last": ["bug"], "cancel": ["permanent", "ok"]}})
    deliver(app_engine, handle, "first", "call", "extra", "last")
    at(Point.AFTER_CLAIM, "call", lambda: handle.pause(**SIGNED))
    app_engine.executor.compensate(Scripted, handle.id)
    assert handle.status() == "paused"
    case = app_engine.review.of(handle.id)
    assert (case.reason, case.was) == ("an undo failed", "compensating")
    with pytest.raises(RemedyRefused, match="came to need a person while it was paused"):
        handle.cancel(**SIGNED)
    assert handle.resume(**SIGNED) == "manual_review_required"
    app_engine.review.retry(case.number, **SIGNED)
    assert throwaway.sweep(handle) == "compensated"


@pytest.mark.parametrize("point", [Point.AFTER_CLAIM, Point.AFTER_CALL])
@pytest.mark.parametrize("named", ["first", "call", "extra", "last"])
def test_cancelled_in_the_middle_of_a_step_it_is_undone_whole(throwaway, app_engine, world, at, named, point):
    handle = record(Scripted, {})
    names = list(handle.record().steps)
    before = names[: names.index(named)]
    if before:
        deliver(app_engine, handle, *before)
    at(point, named, lambda: handle.cancel(**SIGNED))
    deliver(app_engine, handle, named)
    assert throwaway.sweep(handle) == "compensated"
    assert not world.stands(f"{handle.id}/call")
    assert world.local(handle.id).count("undo_first") == world.local(handle.id).count("first")
    assert "last" not in world.local(handle.id)


# --- the pivot ---


def test_a_saga_is_not_cancelled_past_its_pivot(throwaway, app_engine):
    handle = record(Pivoting, {})
    deliver(app_engine, handle, "before", "pivot")
    with pytest.raises(RemedyRefused, match=r"past the pivot \(step pivot\)"):
        handle.cancel(**SIGNED)
    assert throwaway.sweep(handle) == "completed"


def test_cancelled_while_a_local_pivot_works_its_writes_are_taken_back(throwaway, app_engine, world, at):
    handle = record(Pivoting, {})
    deliver(app_engine, handle, "before")
    at(Point.AFTER_CALL, "pivot", lambda: handle.cancel(**SIGNED))
    assert deliver(app_engine, handle, "pivot").verdict is Verdict.END
    assert throwaway.sweep(handle) == "compensated"
    assert world.local(handle.id) == ["before", "undo_before"]


def test_a_saga_is_not_cancelled_while_its_pivot_may_be_coming_about_outside(throwaway, app_engine, at):
    call = step(external=True, pivot=True, idempotent=True)(lambda self, key: {"key": key})
    handle = throwaway.record(call=call)
    told: list[str] = []

    def cancel():
        with pytest.raises(RemedyRefused) as refused:
            handle.cancel(**SIGNED)
        told.append(str(refused.value))

    at(Point.AFTER_CLAIM, "call", cancel)
    deliver(app_engine, handle, "call")
    assert "past the pivot (step call)" in told[0]
    assert handle.status() == "completed"


def test_a_kind_that_nobody_knows_is_not_cancelled_but_may_be_paused(throwaway, app_engine):
    handle = record(Scripted, {})
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET name = 'former'"))
    with pytest.raises(RemedyRefused, match="no code here knows sagas of kind former"):
        handle.cancel(**SIGNED)
    assert handle.pause(**SIGNED) == "paused"
    assert handle.resume(**SIGNED) == "pending"
