"""Steps side by side: begun together, joined once, waited for together (SPEC 3)."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from sagajobs.errors import InvalidInput, TransientError
from sagajobs.saga import Database, RetryPolicy, step
from sagajobs.saga.act import Verdict
from sagajobs.saga.faultpoints import Point
from sagajobs.saga.sweep import recover
from sagajobs.testing.broker import HandBroker
from sagajobs.testing.waiting import wait_for
from tests.support.sagas import record, states
from tests.support.stages import SIDE_BY_SIDE, STEPS, begun, due_in, finish, tried
from tests.support.throwaway import let_time_pass
from tests.support.wide import Wide

# --- going forward ---


def test_all_of_a_stage_come_after_what_stands_before_it_and_before_what_follows(world):
    assert Wide.run({})["last"] == [0, 1, 2]
    acts = [act for act in world.acts() if act.startswith("try:")]
    assert acts[0] == "try:start"
    assert acts[-1] == "try:last"
    assert Counter(acts) == Counter(f"try:{name}" for name in STEPS if not name.startswith("book")) + Counter(
        {f"try:note_{name}": 1 for name in STEPS if name.startswith("book")}
        | {f"try:{name}": 1 for name in STEPS if name.startswith("book")}
    )


def test_a_caller_carries_them_out_at_the_same_time(throwaway):
    """Each waits within the step until all are in: one after the other, none would ever come out."""
    all_in = threading.Barrier(6)

    def meet(_saga, _key, item: int) -> int:
        all_in.wait(60)
        return item

    def meet_too(_saga, _db) -> None:
        all_in.wait(60)

    kind = throwaway.kind(
        first=step(irreversible=True)(lambda _saga, _db: None),
        several=step(external=True, irreversible=True, idempotent=True, each=lambda _saga: 5)(meet),
        beside=step(irreversible=True, parallel=True)(meet_too),
    )
    assert kind.run({})["several"] == {item: item for item in range(5)}


def test_more_than_the_pool_has_connections_run_at_the_same_time(throwaway):
    all_in = threading.Barrier(40)
    kind = throwaway.kind(
        several=step(external=True, irreversible=True, idempotent=True, each=lambda _saga: 40)(
            lambda _saga, _key, item: all_in.wait(60) and item
        ),
    )
    assert len(kind.run({})["several"]) == 40


SCRIPTS = {
    "all goes well": ({}, "completed"),
    "tried again": (
        {"start": ["transient", "ok"], "book[0]": ["transient", "ok"], "beside": ["transient", "ok"]},
        "completed",
    ),
    "looked for": ({"book[0]": ["book+timeout"], "book[1]": ["timeout", "ok"]}, "completed"),
    "undone": ({"last": ["bug"], "cancel[0]": ["timeout", "ok"], "undo_beside": ["transient", "ok"]}, "compensated"),
    "failed in a stage": ({"book[1]": ["permanent"], "cancel[0]": ["transient", "ok"]}, "compensated"),
}


@pytest.mark.parametrize(("script", "end"), SCRIPTS.values(), ids=SCRIPTS.keys())
def test_nobody_holds_one_connection_while_he_asks_for_another(app_engine, world, monkeypatch, script, end):
    """With a single connection everything goes on: else many at once would use up the pool, and wait for ever."""
    single = create_engine(app_engine.database.engine.url, pool_size=1, max_overflow=0, pool_timeout=60)
    handle = record(Wide, {"script": script})
    world_s_own = Database(world._database._url)
    with monkeypatch.context() as patch:
        patch.setattr(world, "_database", world_s_own)
        patch.setattr(app_engine.database, "_engine", single)
        ended, _ = app_engine.drive(Wide, handle.id)
    single.dispose()
    world_s_own.close()
    assert ended.state == end


def test_too_many_or_none_are_refused_before_anything_is_written(world, db):
    for items in (0, 101):
        with pytest.raises(InvalidInput, match="for 1 to 100 items"):
            Wide.enqueue({"items": items})
    assert db.execute(text("SELECT count(*) FROM sagas")).scalar_one() == 0


def test_a_stage_can_be_the_first_and_the_last(throwaway, app_engine, monkeypatch):
    kind = throwaway.kind(
        several=step(irreversible=True, each=lambda _saga: 3)(lambda _saga, _db, item: item),
    )
    broker = HandBroker(app_engine)
    monkeypatch.setattr(app_engine, "publisher", broker)
    handle = kind.enqueue({})
    assert [message.step for message in broker.messages] == ["several[0]", "several[1]", "several[2]"]
    finish(app_engine, broker, handle)
    assert handle.result() == {"several": {0: 0, 1: 1, 2: 2}}


# --- the join ---


def test_of_two_that_are_done_in_the_same_instant_one_carries_on(app_engine, world, forward, at, db):
    """Both have done their work before either one writes."""
    handle = begun(forward, items=2, skip=True)
    for name in ("beside", "extra"):
        forward(handle, name)
    both = threading.Barrier(2)
    for item in range(2):
        at(Point.AFTER_CALL, f"book[{item}]", lambda: both.wait(60))
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda item: forward(handle, f"book[{item}]"), range(2)))
    assert sorted(outcome.verdict for outcome in outcomes) == [Verdict.CARRY_ON, Verdict.END]
    assert handle.record().stage == 2
    app_engine.drive(Wide, handle.id)
    assert tried(world, handle, "last") == 1


def test_the_second_one_waits_for_the_firsts_commit_and_then_carries_on(app_engine, world, forward, at, db):
    """The first has written and not committed; the second must count on what he will have left."""
    handle = begun(forward, items=2, skip=True)
    for name in ("beside", "extra"):
        forward(handle, name)
    claimed, go_on = threading.Event(), threading.Event()

    def blocked() -> bool:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sagajobs_write%'"
        return bool(db.execute(text(waits)).scalar_one())

    def the_first_has_written() -> None:
        go_on.set()
        wait_for(blocked)

    at(Point.AFTER_CLAIM, "book[1]", lambda: claimed.set() or go_on.wait(60))
    at(Point.BEFORE_COMMIT, "book[0]", the_first_has_written)
    with ThreadPoolExecutor(1) as thread:
        second = thread.submit(forward, handle, "book[1]")
        assert claimed.wait(60)
        first = forward(handle, "book[0]")
    assert (first.verdict, second.result().verdict) == (Verdict.END, Verdict.CARRY_ON)
    app_engine.drive(Wide, handle.id)
    assert tried(world, handle, "last") == 1


def test_whoever_is_redelivered_after_the_join_carries_on_while_nobody_else_has(app_engine, world, forward):
    handle = begun(forward, items=1, skip=True)
    verdicts = [forward(handle, name).verdict for name in ("book[0]", "beside", "extra")]
    assert verdicts == [Verdict.END, Verdict.END, Verdict.CARRY_ON]
    assert forward(handle, "extra").verdict is Verdict.END, "a mere duplicate does not"
    assert forward(handle, "extra", redelivered=True).verdict is Verdict.CARRY_ON
    app_engine.drive(Wide, handle.id)
    assert forward(handle, "extra", redelivered=True).verdict is Verdict.END


# --- waiting, and the sweep ---


@pytest.mark.parametrize("what", ["book[1]", "beside"])
@pytest.mark.parametrize("how", ["transient", "deferred"])
@pytest.mark.parametrize("first", [True, False], ids=["fails first", "fails last"])
def test_the_sweep_looks_when_one_is_due_whatever_the_others_do(
    world, forward, app_engine, db, monkeypatch, what, how, first
):
    patient = RetryPolicy(max_attempts=3, base=90.0, max_delay=90.0, jitter=0.0, deferral=90.0)
    declared = next(step for step in Wide.definition.steps if step.name == what.partition("[")[0])
    monkeypatch.setattr(declared, "retry", patient)
    monkeypatch.setattr(app_engine.executor, "stall_after", 600.0)
    handle = begun(forward, script={what: [how, "ok"]})
    others = [name for name in SIDE_BY_SIDE if name != what]
    for name in [what, *others] if first else [*others, what]:
        forward(handle, name)
    assert 0 < due_in(db, handle) <= 90.0
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now()"))
    sent: list[tuple[str, ...]] = []
    monkeypatch.setattr(HandBroker, "steps", lambda _broker, _kind, _id, names: sent.append(tuple(names)))
    monkeypatch.setattr(app_engine, "publisher", HandBroker(app_engine))
    recover(app_engine)
    assert sent == [(what,)], "only at what is open"
    assert due_in(db, handle) <= 90.0
    let_time_pass(app_engine)
    app_engine.drive(Wide, handle.id)
    assert handle.status() == "completed"


def test_one_that_is_held_back_does_not_put_off_the_others(throwaway, app_engine, forward, db):
    """The circuit is open for a minute: what a sibling waits for in a second is not put off for that."""
    waits = {0: 60.0, 1: 0.0}
    tries: list[int] = []

    def call(_saga, _key, item: int) -> int:
        tries.append(item)
        if tries.count(item) == 1:
            raise TransientError
        return item

    several = step(
        external=True,
        irreversible=True,
        idempotent=True,
        each=lambda _saga: 2,
        retry=RetryPolicy(base=1.0, jitter=0.0),
        hold=lambda _saga: waits[len(held)] if len(held) < 2 else 0.0,
    )(call)
    held: list[int] = []
    kind = throwaway.kind(first=step(irreversible=True)(lambda _saga, _db: None), several=several)
    handle = record(kind, {})
    forward(handle, "first", kind)
    held.append(1)  # `hold` says 0 s: it is tried, and fails
    forward(handle, "several[1]", kind)
    held.clear()  # `hold` says 60 s
    assert forward(handle, "several[0]", kind).wait == 60.0
    assert due_in(db, handle) <= 1.0
    assert handle.record().steps["several[0]"].attempts == 0
    held += [1, 1]
    throwaway.sweep(handle)
    assert handle.status() == "completed"


def test_paused_in_the_middle_what_is_in_flight_is_recorded_and_nothing_is_begun(app_engine, world, forward, at, db):
    handle = begun(forward, items=2, skip=True)

    def pause() -> None:
        with app_engine.database.transaction() as connection:
            connection.execute(
                text("UPDATE sagas SET state = 'paused', paused_from = state, next_at = NULL WHERE id = :id"),
                {"id": handle.id},
            )

    at(Point.AFTER_CLAIM, "book[0]", pause)
    assert forward(handle, "book[0]").verdict is Verdict.END
    assert [forward(handle, name).verdict for name in ("book[1]", "beside", "extra")] == [Verdict.END] * 3
    assert states(handle) == {
        "start": "done",
        "book[0]": "done",
        "book[1]": "waiting",
        "beside": "waiting",
        "extra": "waiting",
        "last": "waiting",
    }
    assert (handle.status(), tried(world, handle, "book[1]")) == ("paused", 0)
    with app_engine.database.transaction() as connection:
        connection.execute(
            text("UPDATE sagas SET state = paused_from, paused_from = NULL, next_at = saga_now() WHERE id = :id"),
            {"id": handle.id},
        )
    app_engine.drive(Wide, handle.id)
    assert (handle.status(), tried(world, handle, "book[0]"), tried(world, handle, "last")) == ("completed", 1, 1)
