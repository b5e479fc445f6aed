"""Locks of sagas that were undone, ask a person, are paused, purged or dead: let go of in time, and no sooner (G6)."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs.saga.act import Verdict
from sagajobs.saga.sweep import recover
from sagajobs.testing.waiting import wait_for
from tests.support.wide import Locking, line, wants


def set_state(app_engine, handle, state: str) -> None:
    """Pause or resume as an operator does."""
    with app_engine.database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE sagas SET state = :to, paused_from = CASE WHEN :to = 'paused' THEN state END, "
                "next_at = CASE WHEN :to = 'paused' THEN NULL ELSE saga_now() END WHERE id = :id"
            ),
            {"to": state, "id": handle.id},
        )


@pytest.mark.parametrize("script", [{"begin": ["bug"]}, {"end": ["bug"]}], ids=["at once", "later"])
def test_a_saga_that_was_undone_lets_go(app_engine, broker, begin, db, held, script):
    first, second = wants("a", **script), wants("a")
    begin(first)
    begin(second)
    app_engine.drive(Locking, first.id)
    assert first.status() == "compensated"
    broker.drain()
    recover(app_engine)
    broker.drain()
    app_engine.drive(Locking, second.id)
    assert (second.status(), line(db)) == ("completed", [])
    assert held.overlaps() == []


def test_a_saga_that_asks_a_person_keeps_what_it_works_on(app_engine, broker, begin, db, monkeypatch):
    monkeypatch.setattr(Locking, "lock_wait", 10.0)
    first, second = wants("a", end=["bug"], undo_begin=["permanent"]), wants("a")
    begin(first)
    app_engine.drive(Locking, first.id)
    assert first.status() == "manual_review_required"
    assert begin(second).verdict is Verdict.LATER
    assert line(db) == [(first.id, True), (second.id, False)]
    with app_engine.database.transaction() as connection:  # as abandoning it does, the word being lost
        connection.execute(text("UPDATE sagas SET ended_at = saga_now() WHERE id = :id"), {"id": first.id})
    app_engine.drive(Locking, second.id)
    assert second.status() == "completed", "one that has ended never blocks anybody, even if nobody was told"


def test_a_lock_does_not_expire_however_long_its_saga_takes(app_engine, broker, begin, db):
    """Its worker may be dead, and what it does outside under way: only its end lets others in."""
    first, second = wants("a"), wants("a")
    begin(first)
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE saga_locks SET since = since - interval '30 days'"))
        connection.execute(text("UPDATE sagas SET created_at = created_at - interval '30 days'"))
    assert begin(second).verdict is Verdict.LATER
    assert line(db) == [(first.id, True), (second.id, False)]
    for handle in (first, second):
        app_engine.drive(Locking, handle.id)
    assert second.status() == "completed"


def test_a_paused_holder_blocks_and_a_paused_waiter_does_not(app_engine, broker, begin, db):
    holder, sleeper, third = wants("a"), wants("a"), wants("a")
    for handle in (holder, sleeper, third):
        begin(handle)
    set_state(app_engine, sleeper, "paused")
    set_state(app_engine, holder, "paused")
    assert begin(third).verdict is Verdict.LATER
    set_state(app_engine, holder, "running")
    app_engine.drive(Locking, holder.id)
    broker.drain()
    assert (third.status(), sleeper.status()) == ("completed", "paused")
    set_state(app_engine, sleeper, "pending")
    app_engine.drive(Locking, sleeper.id)
    assert (sleeper.status(), line(db)) == ("completed", [])


def test_a_free_lock_is_not_kept_for_a_paused_waiter(app_engine, broker, begin):
    holder, sleeper = wants("a"), wants("a")
    begin(holder)
    begin(sleeper)
    set_state(app_engine, sleeper, "paused")
    app_engine.drive(Locking, holder.id)
    newcomer = wants("a")
    app_engine.drive(Locking, newcomer.id)
    assert newcomer.status() == "completed"
    set_state(app_engine, sleeper, "pending")
    app_engine.drive(Locking, sleeper.id)
    assert sleeper.status() == "completed"


def test_purging_a_saga_frees_what_it_held(app_engine, broker, begin, db):
    first, second = wants("a"), wants("a")
    begin(first)
    begin(second)
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM sagas WHERE id = :id"), {"id": first.id})
    assert line(db) == [(second.id, False)]
    app_engine.drive(Locking, second.id)
    assert second.status() == "completed"


def test_a_first_step_that_is_tried_again_gets_its_lock_again(app_engine, broker, begin, db, held):
    first = wants("a", begin=["transient", "ok"])
    assert begin(first).verdict is Verdict.LATER
    assert line(db) == [], "what it wrote is gone, its lock as well: nothing was done under it"
    second = wants("a")
    begin(second)
    app_engine.drive(Locking, second.id)
    app_engine.drive(Locking, first.id)
    assert [first.status(), second.status()] == ["completed", "completed"]
    assert held.overlaps() == []
    assert line(db) == []


def test_the_holders_worker_dies_and_nobody_else_gets_in_until_the_sweep_has_ended_his_saga(workers, held, db):
    """Killed in the middle of its call, again and again: the lock stays with its saga."""
    workers(concurrency=1)
    holder = Locking.enqueue({"resources": ["a"], "script": {"work": ["die", "die", "ok"]}})
    wait_for(held.spans)
    others = [Locking.enqueue({"resources": ["a"]}) for _ in range(3)]
    workers(concurrency=0)
    assert [handle.wait(90) for handle in (holder, *others)] == ["completed"] * 4
    assert held.spans()["a"][0][2] == holder.id
    assert held.overlaps() == []
    assert holder.record().steps["work"].attempts == 3
