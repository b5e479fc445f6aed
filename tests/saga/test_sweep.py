"""The recovery sweep by itself, with no worker about."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from sagajobs.saga.sweep import LONGEST_SILENCE, recover
from tests.support.sagas import Pivoting, Scripted, record

pytestmark = pytest.mark.usefixtures("world", "_clean_broker", "_unhurried")


@pytest.fixture
def _unhurried(app_engine, monkeypatch):
    """What was hinted at is not due again before the test is over."""
    monkeypatch.setattr(app_engine.executor, "stall_after", 600.0)


def test_a_slow_queue_is_not_taken_for_a_dead_worker(app_engine, monkeypatch):
    """Hints that bring nothing about come ever more rarely, up to ten minutes apart."""
    monkeypatch.setattr(app_engine.executor, "stall_after", 60.0)
    handle = record(Scripted, {})
    for silence in (60, 120, 240, 480, LONGEST_SILENCE, LONGEST_SILENCE):
        with app_engine.database.transaction() as connection:
            before = connection.execute(text("UPDATE sagas SET next_at = saga_now() RETURNING next_at")).scalar_one()
        assert recover(app_engine) == 1
        with app_engine.database.reading() as connection:
            due, after = connection.execute(text("SELECT next_at, saga_now() FROM sagas")).one()
        assert (due - after).total_seconds() <= silence <= (due - before).total_seconds()
        assert recover(app_engine) == 0, "not due again at once"
    app_engine.drive(Scripted, handle.id)


def test_progress_forgets_the_hints(app_engine):
    handle = record(Scripted, {})
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET hints = 9"))
    app_engine.executor.forward(Scripted, Scripted.definition.steps[0], handle.id)
    assert handle.record().hints == 0
    app_engine.drive(Scripted, handle.id)


def test_the_hint_is_for_the_step_in_work_and_for_the_undo_when_compensating(app_engine, monkeypatch):
    sent = []

    class Hints:
        def steps(self, kind, saga_id, names):
            sent.append((saga_id, names))

        def compensation(self, kind, saga_id):
            sent.append((saga_id, "undo"))

    monkeypatch.setattr(app_engine, "publisher", Hints())
    forward, backward = record(Scripted, {}), record(Scripted, {"script": {"first": ["bug"]}})
    for handle in (forward, backward):
        app_engine.executor.forward(Scripted, Scripted.definition.steps[0], handle.id)
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now()"))
    assert recover(app_engine) == 2
    assert sorted(sent, key=str) == sorted([(forward.id, ("call",)), (backward.id, "undo")], key=str)
    for handle in (forward, backward):
        app_engine.drive(Scripted, handle.id)


def test_two_sweeps_at_once_take_each_saga_once(app_engine):
    handles = [record(Scripted, {}) for _ in range(50)]
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now()"))
    taken: list[int] = []
    sweeps = [threading.Thread(target=lambda: taken.append(recover(app_engine))) for _ in range(4)]
    for sweep in sweeps:
        sweep.start()
    for sweep in sweeps:
        sweep.join()
    assert sum(taken) == 50
    for handle in handles:
        app_engine.drive(Scripted, handle.id)


def test_a_saga_that_another_sweep_has_taken_is_passed_over(world, app_engine, monkeypatch):
    """Both have seen that two are due; while the one sends its first hint, the other takes what is left."""
    handles = [record(Scripted, {}) for _ in range(2)]
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now()"))
    others: list[int] = []

    class Hints:
        def steps(self, kind, saga_id, names):
            if not others:
                others.append(0)
                others[0] = recover(app_engine)

    monkeypatch.setattr(app_engine, "publisher", Hints())
    assert (recover(app_engine), others) == (1, [1])
    assert [handle.record().hints for handle in handles] == [1, 1]
    for handle in handles:
        app_engine.drive(Scripted, handle.id)


def test_a_kind_that_this_worker_does_not_know_is_left_to_others(app_engine, monkeypatch):
    handles = [record(Scripted, {}), record(Pivoting, {}), record(Scripted, {})]
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now()"))
    with monkeypatch.context() as patch:
        patch.delitem(app_engine.kinds, "pivoting")
        assert recover(app_engine) == 2
    assert [handle.record().hints for handle in handles] == [1, 0, 1]
    assert recover(app_engine) == 1
    for handle, kind in zip(handles, (Scripted, Pivoting, Scripted), strict=True):
        app_engine.drive(kind, handle.id)
