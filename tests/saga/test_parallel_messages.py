"""Steps side by side as messages: counted, doubled, lost, and whoever dies with one of them (SPEC 8)."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import Engine, event

from sagajobs.saga import Database
from sagajobs.saga.faultpoints import Point
from tests.support.stages import SIDE_BY_SIDE, STEPS, finish, standing, tried
from tests.support.wide import Wide

# --- messages ---


def test_n_steps_cost_n_messages_and_1_l_2e_commits(app_engine, world, broker, monkeypatch):
    own = Database(world._database._url)
    monkeypatch.setattr(world, "_database", own)  # what is done outside is not counted
    commits: list[object] = []

    def count(connection) -> None:
        if connection.engine is app_engine.database.engine:
            commits.append(connection)

    event.listen(Engine, "commit", count)
    try:
        handle = Wide.enqueue({})
        delivered = 0
        while broker.messages:
            broker.deliver(0)
            delivered += 1
    finally:
        event.remove(Engine, "commit", count)
        own.close()
    assert handle.status() == "completed"
    assert delivered == len(STEPS)
    local, external = 4, 3
    assert len(commits) == 1 + local + 2 * external


@pytest.mark.parametrize("script", [{}, {"book[1]": ["permanent"]}, {"last": ["bug"]}], ids=["done", "failed", "late"])
def test_every_message_twice_changes_nothing(app_engine, world, broker, script):
    handle = Wide.enqueue({"script": script})
    seen = []
    while broker.messages:
        seen.append(broker.messages[0])
        broker.deliver(0)
        broker.messages.insert(0, seen[-1])
        broker.deliver(0)
    finish(app_engine, broker, handle)
    _each_once(world, handle, script)
    broker.messages += seen  # and all of them a third time, late
    broker.drain()
    _each_once(world, handle, script)


def _each_once(world, handle, script) -> None:
    """Assert that a saga has ended as it must, each thing done and undone once."""
    acts = world.acts(handle.id)
    assert handle.status() == ("compensated" if script else "completed")
    assert standing(world, handle) == ([] if script else [0, 1, 2])
    assert acts.count("book") == acts.count("cancel") if script else acts.count("book") == 3
    local = Counter(world.local(handle.id))
    assert max(local.values()) == 1
    assert ("last" in local) == (not script)
    assert (local["undo_start"], local["undo_beside"]) == ((1, local["beside"]) if script else (0, 0))


@pytest.mark.parametrize("script", [{}, {"book[1]": ["permanent"]}, {"last": ["bug"]}], ids=["done", "failed", "late"])
def test_any_message_lost_costs_time_only(app_engine, world, broker, script):
    for lost in range(12):
        handle = Wide.enqueue({"script": script})
        for _ in range(lost):
            if broker.messages:
                broker.deliver(0)
        if not broker.messages:
            break
        broker.lose(0)
        finish(app_engine, broker, handle)
        _each_once(world, handle, script)
    assert lost > len(SIDE_BY_SIDE)


@pytest.mark.parametrize("point", list(Point))
@pytest.mark.parametrize(
    ("script", "least"),
    [
        pytest.param({}, len(STEPS), id="done", marks=pytest.mark.siege),
        pytest.param({"book[1]": ["permanent"]}, 2, id="failed", marks=pytest.mark.siege),
        pytest.param({"last": ["bug"]}, len(STEPS) - 1, id="late"),  # in which all is done, and then undone
    ],
)
def test_a_worker_dies_anywhere_with_any_message(app_engine, world, broker, script, least, point):
    """At most points whoever fails, or finds nothing to do any more, never comes past; hence `least`."""
    deaths = 0
    for dies in range(12):
        handle = Wide.enqueue({"script": script})
        for _ in range(dies):
            if broker.messages:
                broker.deliver(0)
        if not broker.messages:
            break
        broker.deliver(0, dies_at=point)
        deaths, broker.deaths = deaths + broker.deaths, 0
        finish(app_engine, broker, handle)
        _each_once(world, handle, script)
    assert deaths >= least


# --- real workers ---


def test_carried_by_celery(worker, world):
    handles = [Wide.enqueue({"script": script}) for script in ({}, {"book[1]": ["permanent"]}, {"last": ["bug"]})]
    assert [handle.wait(90) for handle in handles] == ["completed", "compensated", "compensated"]
    for handle, script in zip(handles, ({}, 1, 1), strict=True):
        _each_once(world, handle, script)


@pytest.mark.siege
def test_twenty_at_once_each_once(worker, world):
    scripts: list[dict] = [{}, {"book[2]": ["permanent"]}, {"book[0]": ["book+timeout"]}, {"beside": ["bug"]}, {}]
    handles = [Wide.enqueue({"script": scripts[n % 5]}) for n in range(20)]
    assert [handle.wait(90) for handle in handles] == [
        "completed",
        "compensated",
        "completed",
        "compensated",
        "completed",
    ] * 4
    assert [standing(world, handle) for handle in handles[:5]] == [[0, 1, 2], [], [0, 1, 2], [], [0, 1, 2]]
    assert all(tried(world, handle, "last") == (handle.status() == "completed") for handle in handles)
