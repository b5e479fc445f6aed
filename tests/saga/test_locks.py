"""Locks: one saga at a time, in the order of coming, and nobody waits for ever (G6)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
from sqlalchemy import text

from sagajobs.errors import LockNotAvailable, SagaException
from sagajobs.saga import step
from sagajobs.saga.act import Verdict
from sagajobs.saga.faultpoints import Point
from sagajobs.saga.locks import LOOK_AGAIN
from sagajobs.saga.states import SagaState
from sagajobs.saga.store import Store
from sagajobs.saga.sweep import recover
from sagajobs.testing.waiting import wait_for
from tests.support.sagas import record
from tests.support.wide import Locking, line, wants


def deadlocks(db) -> int:
    return db.execute(text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")).scalar_one()


# --- one at a time, in order ---


def test_the_second_waits_and_is_told_as_soon_as_the_first_has_ended(app_engine, broker, begin, held, db):
    first, second = wants("a"), wants("a")
    begin(first)
    outcome = begin(second)
    assert outcome.verdict is Verdict.LATER
    assert held.spans().keys() == {"a"}
    assert line(db) == [(first.id, True), (second.id, False)]
    assert broker.messages == []
    app_engine.drive(Locking, first.id)
    assert line(db) == [(second.id, True)], "handed on in the commit that ended the first"
    assert [(message.saga_id, message.step) for message in broker.messages] == [(second.id, "begin")]
    broker.drain()
    assert second.status() == "completed"
    assert line(db) == []
    assert held.overlaps() == []


def test_a_waiter_whose_word_is_lost_looks_again_by_itself(app_engine, broker, begin, db):
    first, second = wants("a"), wants("a")
    begin(first)
    begin(second)
    due = "SELECT extract(epoch FROM next_at - saga_now()) FROM sagas WHERE id = :id"
    assert 0 < db.execute(text(due), {"id": second.id}).scalar_one() <= LOOK_AGAIN
    app_engine.drive(Locking, first.id)
    broker.messages.clear()
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now() WHERE id = :id"), {"id": second.id})
    recover(app_engine)
    broker.drain()
    assert second.status() == "completed"


def test_first_come_first_served(app_engine, broker, begin, held):
    handles = [wants("a") for _ in range(6)]
    for handle in handles:
        begin(handle)
    app_engine.drive(Locking, handles[0].id)
    broker.drain()
    assert [saga for _, _, saga in held.spans()["a"]] == [handle.id for handle in handles]
    assert held.overlaps() == []


def test_who_waits_spends_no_attempt_and_leaves_no_history(app_engine, broker, begin, db):
    first, second = wants("a"), wants("a")
    begin(first)
    for _ in range(20):
        begin(second)
    assert second.record().steps["begin"].attempts == 0
    history = "SELECT count(*) FROM saga_events WHERE saga_id = :id"
    assert db.execute(text(history), {"id": second.id}).scalar_one() == 1
    app_engine.drive(Locking, first.id)
    broker.drain()
    assert (second.status(), second.record().steps["begin"].attempts) == ("completed", 1)


def test_it_may_wait_for_longer_than_it_has_attempts(app_engine, broker, begin):
    """Hinted at again and again by the sweep, which counts for a step that may have died at work."""
    first, second = wants("a"), wants("a")
    begin(first)
    for _ in range(10):
        with app_engine.database.transaction() as connection:
            # However long this takes, the holder is not swept on: it would end, and let the second one in.
            not_yet = text("UPDATE sagas SET next_at = saga_now() + interval '1 h' WHERE id = :id")
            connection.execute(not_yet, {"id": first.id})
            connection.execute(text("UPDATE sagas SET next_at = saga_now() WHERE id = :id"), {"id": second.id})
        recover(app_engine)
        broker.drain()
    app_engine.drive(Locking, first.id)
    broker.drain()
    assert second.status() == "completed"


# --- the wait has an end ---


def test_it_gives_up_after_its_time_and_the_line_moves_on(app_engine, broker, begin, db, monkeypatch):
    first, second, third = wants("a"), wants("a"), wants("a")
    begin(first)
    with monkeypatch.context() as patch:
        patch.setattr(Locking, "lock_wait", 0.05)
        begin(second)
    begin(third)
    wait_for(
        lambda: db.execute(
            text("SELECT waits_until < saga_now() FROM saga_locks WHERE saga_id = :id"), {"id": second.id}
        ).scalar_one()
    )
    outcome = begin(second)
    assert outcome.verdict is Verdict.FAILED
    assert isinstance(outcome.cause, LockNotAvailable)
    app_engine.drive(Locking, second.id)
    assert second.status() == "compensated"
    assert second.record().error["class"] == "sagajobs.errors.LockNotAvailable"
    assert line(db) == [(first.id, True), (third.id, False)]
    app_engine.drive(Locking, first.id)
    broker.drain()
    assert third.status() == "completed"


def test_a_caller_waits_for_it_or_is_told(app_engine, held, begin, monkeypatch):
    first = wants("a")
    begin(first)
    monkeypatch.setattr(Locking, "lock_wait", 0.3)
    with pytest.raises(SagaException) as caught:
        Locking.run({"resources": ["a"]})
    assert isinstance(caught.value.__cause__, LockNotAvailable)
    monkeypatch.undo()
    results: list = []
    caller = threading.Thread(target=lambda: results.append(Locking.run({"resources": ["a"]})))
    caller.start()
    wait_for(lambda: len(held.spans().get("a", [])) == 1)
    app_engine.drive(Locking, first.id)
    caller.join(60)
    assert len(results) == 1
    assert held.overlaps() == []


# --- several ---


def test_several_are_taken_in_one_order_whoever_asks_in_which(app_engine, broker, begin, db):
    first, second = wants("b", "a"), wants("a", "b")
    begin(first)
    begin(second)
    assert (line(db, "a"), line(db, "b")) == ([(first.id, True), (second.id, False)], [(first.id, True)])
    app_engine.drive(Locking, first.id)
    broker.drain()
    assert (first.status(), second.status()) == ("completed", "completed")


def test_it_keeps_what_it_has_while_it_waits_for_the_rest(app_engine, broker, begin, db):
    holder_of_b, both, for_a = wants("b"), wants("a", "b"), wants("a")
    for handle in (holder_of_b, both, for_a):
        begin(handle)
    assert line(db, "a") == [(both.id, True), (for_a.id, False)]
    app_engine.drive(Locking, holder_of_b.id)
    broker.drain()
    assert [handle.status() for handle in (both, for_a)] == ["completed", "completed"]


def test_opposite_orders_at_the_same_time_never_deadlock(app_engine, held, db):
    before = deadlocks(db)
    handles = [wants(*("abc" if n % 2 else "cba")) for n in range(24)]
    with ThreadPoolExecutor(len(handles)) as threads:
        list(threads.map(lambda handle: app_engine.drive(Locking, handle.id, patience=200), handles))
    assert [handle.status() for handle in handles] == ["completed"] * 24
    assert held.overlaps() == []
    assert deadlocks(db) == before


def test_cancelled_in_the_moment_in_which_it_gets_its_lock(app_engine, broker, begin, held, db, at):
    """Who takes a lock comes to the saga's row after it, and so must who ends the saga: else both wait for ever."""
    first, second = wants("a"), wants("a")
    begin(first)
    begin(second)
    app_engine.drive(Locking, first.id)
    before = deadlocks(db)
    undone = threading.Thread(target=lambda: app_engine.executor.compensate(Locking, second.id))

    def cancel() -> None:
        with app_engine.database.transaction() as connection:
            assert Store(connection).turn(
                second.id, SagaState.PENDING, SagaState.COMPENSATING, "compensation_started", next_in=60
            )
        undone.start()
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'"
        wait_for(lambda: db.execute(text(blocked)).scalar_one())

    at(Point.AFTER_CALL, "begin", cancel)
    assert begin(second).verdict is Verdict.END
    undone.join(60)
    assert (second.status(), line(db)) == ("compensated", [])
    assert deadlocks(db) == before
    broker.messages.clear()


# --- locks on what a step has made ---


class _Made:
    """A saga that locks what its first step has made, and fails afterwards if told to."""

    body: ClassVar = {
        "make": step(irreversible=True)(lambda self, db: self.lock(db, "made:1")),
        "then": step(irreversible=True)(lambda _self, _db: None),
    }


def test_what_a_step_has_made_is_the_sagas_until_it_has_ended(throwaway, app_engine, held, begin, db):
    kind = throwaway.kind(**_Made.body)
    maker, other = record(kind, {}), wants("made:1")
    app_engine.executor.forward(kind, kind.definition.step("make"), maker.id)
    assert line(db, "made:1") == [(maker.id, True)]
    assert begin(other).verdict is Verdict.LATER
    app_engine.drive(kind, maker.id)
    app_engine.drive(Locking, other.id)
    assert (maker.status(), other.status(), line(db, "made:1")) == ("completed", "completed", [])


def test_what_is_another_sagas_is_refused_at_once_and_leaves_no_place_in_line(throwaway, app_engine, held, begin, db):
    kind = throwaway.kind(**_Made.body)
    owner, maker = wants("made:1"), record(kind, {})
    begin(owner)
    _, cause = app_engine.drive(kind, maker.id)
    assert isinstance(cause, LockNotAvailable)
    assert maker.status() == "compensated"
    assert line(db, "made:1") == [(owner.id, True)]
    app_engine.drive(Locking, owner.id)


# --- real workers ---


def test_a_hundred_sagas_and_ten_resources_never_two_at_once(workers, held, db):
    for _ in range(2):
        workers(concurrency=2)
    before = deadlocks(db)
    handles = [Locking.enqueue({"resources": [f"r{n % 10}"]}) for n in range(100)]
    workers(concurrency=0)
    assert [handle.wait(90) for handle in handles] == ["completed"] * 100
    assert sum(len(spans) for spans in held.spans().values()) == 100
    assert held.overlaps() == []
    assert deadlocks(db) == before


def test_a_waiter_is_told_and_need_not_look_again(workers, held, begin, db, app_engine):
    """Without beat: nobody sends the waiter's message again, so it can only have been told."""
    first, second = wants("a"), wants("a")
    begin(first)
    begin(second)
    workers(concurrency=1)
    app_engine.publisher.steps(Locking, first.id, ["work"])
    wait_for(lambda: second.status() == "completed")
    (_, ended, _), (began, _, _) = held.spans()["a"]
    assert began >= ended
