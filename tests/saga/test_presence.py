"""Processes that are gone are missed at once: their claims, their last hints and their messages are taken up (G1)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg2
import pytest
from sqlalchemy import text

from sagajobs.saga import Database, wake
from sagajobs.saga.presence import LOCK_CLASS
from sagajobs.saga.sweep import recover
from sagajobs.testing import deaths
from sagajobs.testing.broker import HandBroker
from sagajobs.testing.waiting import wait_for
from tests.support.sagas import Killed, Scripted, record

FIRST, CALL, _, LAST = Scripted.definition.steps

LONG = 600.0
"""Seconds without progress until a sweep would look by itself: longer than any of these tests takes."""

HOLDERS = text("""
    SELECT l.pid FROM pg_locks l JOIN saga_owners o ON CAST(l.objid AS bigint) = o.id
    WHERE l.locktype = 'advisory' AND l.classid = :lock_class AND o.name = :name
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())  -- a given server has others
""")


@pytest.fixture
def sql(app_engine):
    """Execute a statement, and commit."""

    def execute(statement, **values):
        with app_engine.database.transaction() as connection:
            result = connection.execute(text(statement) if isinstance(statement, str) else statement, values)
            return result.scalars().all() if result.returns_rows else None

    return execute


@pytest.fixture
def other(app_engine, sql):
    """Another process's presence, as far as the database can tell."""
    database = Database(lambda: app_engine.database.engine.url.render_as_string(hide_password=False))
    yield database.presence
    database.close()
    sql("DELETE FROM saga_owners WHERE name = :name", name=database.presence.name)


def _listed(sql, name: str) -> bool:
    return sql("SELECT count(*) FROM saga_owners WHERE name = :name", name=name) == [1]


def _holder(sql, name: str) -> int | None:
    pids = sql(HOLDERS, lock_class=LOCK_CLASS, name=name)
    return pids[0] if pids else None


def _missed_long_ago(sql, name: str) -> None:
    sql("UPDATE saga_owners SET missed_at = clock_timestamp() - interval '1 min' WHERE name = :name", name=name)


# --- whole workers ---


def test_a_step_of_a_worker_that_is_gone_is_settled_before_its_lease_ends(workers, world, app_engine, monkeypatch):
    monkeypatch.setattr(app_engine.executor, "stall_after", LONG)
    one = workers(concurrency=1)
    handle = record(Scripted, {})
    hit = deaths.plan(one.folder, handle.id, "call", "after_call", "worker")
    app_engine.hint(Scripted, handle.id)
    wait_for(lambda: (recover(app_engine), hit.exists())[1])  # there is no beat, should the call have to be repeated
    with app_engine.database.transaction() as connection:  # as if its call took much longer than it does
        longer = text(
            "UPDATE saga_steps SET lease_until = saga_now() + interval '10 min' WHERE lease_until IS NOT NULL"
        )
        assert connection.execute(longer).rowcount == 1
        connection.execute(text("UPDATE sagas SET next_at = saga_now() + interval '10 min'"))
    workers(concurrency=1, beat=True, SAGAJOBS_STALL_AFTER=str(LONG))
    assert handle.wait(90) == "completed"
    assert world.acts(handle.id).count("book") == 1


def test_messages_in_the_hands_of_a_worker_that_is_gone_are_sent_again(workers, world, app_engine, monkeypatch):
    """All workers are killed in the middle; Redis keeps what they had been given from everybody else."""
    monkeypatch.setattr(app_engine.executor, "stall_after", LONG)
    quiet = {"SAGAJOBS_STALL_AFTER": str(LONG)}
    first = [workers(concurrency=2, **quiet) for _ in range(2)]
    handles = [record(Scripted, {}) for _ in range(60)]
    hits = [deaths.plan(first[0].folder, handle.id, "first", "before_claim", "worker") for handle in handles[15:]]
    for handle in handles:
        app_engine.hint(Scripted, handle.id)
    wait_for(lambda: not any(worker.alive for worker in first))
    for hit in hits:
        hit.with_suffix("").unlink(missing_ok=True)
    assert any(handle.status() != "completed" for handle in handles)
    workers(concurrency=2, beat=True, **quiet)
    assert {handle.wait(90) for handle in handles} == {"completed"}
    assert {world.acts(handle.id).count("book") for handle in handles} == {1}


def test_a_frozen_worker_is_not_missed(workers, world, app_engine, sql):
    """It may be in the middle of a call: only its lease tells."""
    worker = workers(concurrency=1, beat=True)
    assert Scripted.enqueue({}).wait(90) == "completed"
    names = set(sql("SELECT DISTINCT owner FROM saga_steps WHERE owner IS NOT NULL"))
    os.killpg(worker.process.pid, signal.SIGSTOP)
    try:
        assert all(_holder(sql, name) is not None for name in names)
        wake.hold(app_engine.database)
        assert (
            sql("SELECT name FROM saga_owners WHERE name = ANY(:names) AND missed_at IS NOT NULL", names=list(names))
            == []
        )
    finally:
        os.killpg(worker.process.pid, signal.SIGCONT)


def test_one_that_is_silent_is_not_missed(app_engine, clean, sql, other):
    """Only a lock that is gone tells; who says nothing for a while may be in the middle of a call, or frozen in it."""
    name = other.name
    silent = """
        SELECT count(*) FROM pg_stat_activity
        WHERE pid = :pid AND state_change < clock_timestamp() - interval '1.5 s'
    """
    wait_for(lambda: sql(silent, pid=_holder(sql, name)) == [1])
    wake.hold(app_engine.database)
    assert sql("SELECT missed_at FROM saga_owners WHERE name = :name", name=name) == [None]


# --- the call of the dead ---


@pytest.fixture
def died_in_call(app_engine, world, sql, other):
    """A saga whose worker has died with its call under way, and has been missed: `landed` is what came of the call."""

    def make(*, landed: bool):
        handle = record(Scripted, {"script": {"call": ["killed", "ok"]}})
        app_engine.executor.forward(Scripted, FIRST, handle.id)
        with pytest.raises(Killed):
            app_engine.executor.forward(Scripted, CALL, handle.id)
        if landed:
            world.act(f"{handle.id}/call", "book")
        sql("UPDATE saga_steps SET owner = :name WHERE saga_id = :id AND name = 'call'", name=other.name, id=handle.id)
        other.close()
        sql("INSERT INTO saga_owners (name) VALUES (:name)", name=_call_owner(sql, handle))
        _missed_long_ago(sql, _call_owner(sql, handle))
        return handle

    return make


def _call_owner(sql, handle) -> str:
    return sql("SELECT owner FROM saga_steps WHERE saga_id = :id AND name = 'call'", id=handle.id)[0]


def _looks(app_engine, sql, handle, number: int) -> None:
    """Look so often, a long time apart: that a look is too soon after the one before must not be what holds it back."""
    later = "due_at = NULL, lease_until = NULL, absent_since = absent_since - interval '1 min'"
    for _ in range(number):
        app_engine.executor.forward(Scripted, CALL, handle.id)
        sql(f"UPDATE saga_steps SET {later} WHERE saga_id = :id", id=handle.id)


def test_a_look_that_finds_it_settles_it_at_once(app_engine, world, sql, died_in_call):
    handle = died_in_call(landed=True)
    assert app_engine.executor.forward(Scripted, CALL, handle.id).verdict == "end", "its lease runs"
    assert wake.hold(app_engine.database) >= 1
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "completed"
    assert world.acts(handle.id).count("book") == 1


def test_looks_that_find_nothing_settle_nothing_before_the_call_has_had_its_time(app_engine, world, sql, died_in_call):
    handle = died_in_call(landed=False)
    wake.hold(app_engine.database)
    _looks(app_engine, sql, handle, 4)
    assert world.acts(handle.id).count("try:call") == 1, "nobody tries again while it may still land"
    world.act(f"{handle.id}/call", "book")  # the other side was slow
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "completed"
    assert world.acts(handle.id).count("book") == 1


def test_after_that_time_it_is_tried_again(app_engine, world, sql, died_in_call):
    handle = died_in_call(landed=False)
    wake.hold(app_engine.database)
    _looks(app_engine, sql, handle, 3)
    sql("UPDATE saga_steps SET call_until = saga_now() WHERE saga_id = :id AND call_until IS NOT NULL", id=handle.id)
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "completed"
    assert world.acts(handle.id).count("try:call") == 2


# --- the presence itself ---


def test_two_sweeps_at_once_bury_each_once(app_engine, clean, sql):
    for number in range(5):
        sql("INSERT INTO saga_owners (name) VALUES (:name)", name=f"gone:{number}")
    wake.hold(app_engine.database)
    sql("UPDATE saga_owners SET missed_at = missed_at - interval '1 min' WHERE name LIKE 'gone:%'")
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: wake.hold(app_engine.database), range(4)))
    assert sum(found) == 5
    assert sql("SELECT count(*) FROM saga_owners WHERE name LIKE 'gone:%'") == [0]


def test_one_whose_connection_is_cut_is_back_before_it_is_buried(app_engine, clean, sql, other):
    name = other.name
    before = _holder(sql, name)
    sql("SELECT pg_terminate_backend(:pid)", pid=before)
    wait_for(lambda: _holder(sql, name) not in (None, before))
    wake.hold(app_engine.database)
    assert _listed(sql, name)
    assert other.name == name


def test_one_that_was_buried_alive_goes_on_under_another_name(app_engine, clean, sql, other):
    name = other.name
    holder = _holder(sql, name)
    sql("DELETE FROM saga_owners WHERE name = :name", name=name)
    sql("SELECT pg_terminate_backend(:pid)", pid=holder)
    wait_for(lambda: other.name != name)
    assert _holder(sql, other.name) is not None


def test_after_a_restart_of_the_server_nobody_is_buried_who_has_not_come_back(app_engine, clean, sql):
    """Its lock went with the server; it may be at work, and cut off."""
    sql(
        "INSERT INTO saga_owners (name, server_started) VALUES ('cut:off', pg_postmaster_start_time() - interval '1 h')"
    )
    _missed_long_ago(sql, "cut:off")
    wake.hold(app_engine.database)
    assert _listed(sql, "cut:off")
    sql("UPDATE saga_owners SET missed_at = clock_timestamp() - interval '2 h' WHERE name = 'cut:off'")
    wake.hold(app_engine.database)
    assert not _listed(sql, "cut:off"), "struck off in the end"


def test_a_process_that_ends_in_order_strikes_itself_off(clean, sql, other):
    name = other.name
    assert _listed(sql, name)
    other.close()
    assert not _listed(sql, name)


def test_it_is_to_be_had_where_the_pool_has_no_connection_left(app_engine, clean):
    """Whoever claims a step holds one: where many begin at once, all are held by those who wait for their name."""
    database = Database(lambda: app_engine.database.engine.url.render_as_string(hide_password=False), pool_size=1)
    with ExitStack() as held:
        for _ in range(database.engine.pool.size() + database.engine.pool._max_overflow):
            held.enter_context(database.engine.connect())
        assert "/" in database.presence.name, "its number in the list"
    database.close()


FORKING = """
import os, sys, time
from sagajobs.root import engine
print(engine.database.presence.name, flush=True)
if os.fork() == 0:
    time.sleep(600)  # lives on, with a copy of each of its parent's descriptors
print("forked", flush=True)
time.sleep(600)
"""


def test_a_child_does_not_keep_its_parents_presence_alive(clean, sql):
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        try:
            name = parent.stdout.readline().strip()
            assert _holder(sql, name) is not None
            assert parent.stdout.readline() == "forked\n"
            parent.kill()
            wait_for(lambda: _holder(sql, name) is None)
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
    sql("DELETE FROM saga_owners WHERE name = :name", name=name)


def test_where_no_presence_is_to_be_had_the_lease_alone_counts(app_engine, world, monkeypatch, caplog):
    """No connection is left: the work goes on, under a name that is in no list and that no sweep can miss."""

    def refuse():
        raise psycopg2.OperationalError("too many clients")

    presence = app_engine.database.presence
    presence.close()
    monkeypatch.setattr(presence, "_connect", refuse)
    try:
        Scripted.run({})
    finally:
        monkeypatch.undo()
        presence.close()
    assert "no presence (OperationalError)" in caplog.text


def test_the_sweep_takes_up_what_the_dead_have_left(app_engine, world, monkeypatch, sql, died_in_call):
    handle = died_in_call(landed=True)
    broker = HandBroker(app_engine)
    monkeypatch.setattr(app_engine, "publisher", broker)
    recover(app_engine)
    assert [(message.saga_id, message.step) for message in broker.messages] == [(handle.id, "call")]
    broker.drain()
    assert handle.status() == "completed"
