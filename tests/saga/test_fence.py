"""Two workers on one step, interleaved at the engine's fault points: the loser changes no row (G5, G6)."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from sagajobs.errors import ClaimLost
from sagajobs.saga import Database, act, forward
from sagajobs.saga.act import Verdict
from sagajobs.saga.events import Lifecycle
from sagajobs.saga.faultpoints import Point
from sagajobs.saga.states import FORWARD, SagaState, StepState
from sagajobs.saga.store import StepWrite, Store
from sagajobs.testing.waiting import wait_for
from tests.support.patience import patiently
from tests.support.sagas import Scripted, record

FIRST, CALL, EXTRA, LAST = Scripted.definition.steps


def rows(db, saga_id: str) -> list[tuple]:
    """Return all that is on record of a saga."""
    saga = db.execute(text("SELECT * FROM sagas WHERE id = :id"), {"id": saga_id}).all()
    steps = db.execute(text("SELECT * FROM saga_steps WHERE saga_id = :id ORDER BY position"), {"id": saga_id}).all()
    events = db.execute(text("SELECT * FROM saga_events WHERE saga_id = :id ORDER BY id"), {"id": saga_id}).all()
    return [tuple(row) for row in (*saga, *steps, *events)]


def expire_leases(app_engine) -> None:
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE saga_steps SET lease_until = saga_now() WHERE lease_until IS NOT NULL"))


@pytest.mark.parametrize("point", [Point.AFTER_CLAIM, Point.AFTER_CALL])
def test_a_zombie_that_wakes_after_its_lease_writes_nothing(app_engine, world, db, at, point):
    """Frozen in an external step; meanwhile the lease ends and another worker settles the step and ends the saga."""
    handle = record(Scripted, {"script": {"call": ["ok", "ok"]}})
    app_engine.executor.forward(Scripted, FIRST, handle.id)
    after: list = []

    def others_go_on() -> None:
        expire_leases(app_engine)
        app_engine.drive(Scripted, handle.id)
        after.append(rows(db, handle.id))

    at(point, "call", others_go_on)
    outcome = app_engine.executor.forward(Scripted, CALL, handle.id)
    assert outcome.verdict is Verdict.END
    assert rows(db, handle.id) == after[0], "not one row differs"
    assert handle.status() == "completed"


def test_a_zombie_that_wakes_before_its_call_makes_none(app_engine, world, at, monkeypatch):
    """Others have looked meanwhile, seen nothing and made the call themselves; no fence holds back one more outside."""
    long = act.LEASE_MARGIN
    monkeypatch.setattr(act, "LEASE_MARGIN", 0.05)
    handle = record(Scripted, {})
    app_engine.executor.forward(Scripted, FIRST, handle.id)

    def frozen_meanwhile() -> None:
        over = time.monotonic() + act.LEASE_MARGIN
        wait_for(lambda: time.monotonic() > over)
        monkeypatch.setattr(act, "LEASE_MARGIN", long)  # the others are quick, however slow this machine is
        expire_leases(app_engine)
        app_engine.drive(Scripted, handle.id)

    at(Point.AFTER_CLAIM, "call", frozen_meanwhile)
    assert app_engine.executor.forward(Scripted, CALL, handle.id).verdict is Verdict.END
    assert handle.status() == "completed"
    assert world.acts(handle.id).count("book") == 1


def test_a_copy_that_comes_between_a_local_steps_count_and_its_lock_counts_no_attempt(
    app_engine, world, at, monkeypatch
):
    """As after a worker's death, when the broker's redelivery meets the sweep's hint."""
    monkeypatch.setattr(forward, "HANDOVER", 60.0)  # it comes in time, however slow this machine is
    handle = record(Scripted, {})
    outcomes: list = []
    at(
        Point.AFTER_CLAIM,
        "first",
        lambda: outcomes.append(app_engine.executor.forward(Scripted, FIRST, handle.id, redelivered=True).verdict),
    )
    outcomes.append(app_engine.executor.forward(Scripted, FIRST, handle.id, redelivered=True).verdict)
    assert outcomes == [Verdict.END, Verdict.CARRY_ON]
    assert world.acts(handle.id).count("try:first") == 1
    assert handle.record().steps["first"].attempts == 2, "the one that may have died without a count, and this one"
    app_engine.drive(Scripted, handle.id)


def test_a_local_step_claimed_by_somebody_else_between_count_and_lock_is_not_worked_on_twice(app_engine, world, at):
    """Frozen there until its lease is over: it parks."""
    handle = record(Scripted, {})
    outcomes: list = []

    def others_go_on() -> None:
        expire_leases(app_engine)
        outcomes.append(app_engine.executor.forward(Scripted, FIRST, handle.id, redelivered=True).verdict)

    at(Point.AFTER_CLAIM, "first", others_go_on)
    outcomes.append(app_engine.executor.forward(Scripted, FIRST, handle.id, redelivered=True).verdict)
    assert outcomes == [Verdict.CARRY_ON, Verdict.END]
    assert world.acts(handle.id).count("try:first") == 1
    app_engine.drive(Scripted, handle.id)


def test_a_zombie_in_an_undo_writes_nothing(app_engine, world, db, at):
    handle = record(Scripted, {"script": {"last": ["bug"]}})
    for step in Scripted.definition.steps:
        app_engine.executor.forward(Scripted, step, handle.id)
    after: list = []

    def others_go_on() -> None:
        expire_leases(app_engine)
        app_engine.drive(Scripted, handle.id)
        after.append(rows(db, handle.id))

    at(Point.AFTER_CALL, "call", others_go_on)
    assert app_engine.executor.compensate(Scripted, handle.id).verdict is Verdict.END
    assert rows(db, handle.id) == after[0]
    assert handle.status() == "compensated"
    assert world.acts(handle.id).count("cancel") == 1


@pytest.mark.parametrize("step", [FIRST, CALL], ids=["local", "external"])
def test_a_duplicate_beside_the_step_at_work_ends_at_once_and_does_nothing(app_engine, world, db, at, step):
    handle = record(Scripted, {})
    if step is CALL:
        app_engine.executor.forward(Scripted, FIRST, handle.id)
    seen: list = []

    def duplicate() -> None:
        before = world.acts(handle.id)
        thread = threading.Thread(
            target=lambda: seen.append(app_engine.executor.forward(Scripted, step, handle.id, redelivered=True))
        )
        thread.start()
        thread.join(60)
        assert not thread.is_alive(), "it must not wait for the lock in a worker's slot"
        assert world.acts(handle.id) == before

    at(Point.AFTER_CLAIM, step.name, duplicate)
    assert app_engine.executor.forward(Scripted, step, handle.id).verdict is Verdict.CARRY_ON
    assert [outcome.verdict for outcome in seen] == [Verdict.END]
    app_engine.drive(Scripted, handle.id)
    assert handle.record().steps[step.name].attempts == 1


def _turn_round(app_engine, saga_id: str) -> None:
    """What an operator's cancel does."""
    with app_engine.database.transaction() as connection:
        assert Store(connection).turn(
            saga_id, SagaState.RUNNING, SagaState.COMPENSATING, Lifecycle.COMPENSATION_STARTED, next_in=60
        )


def test_turned_round_while_a_local_step_works_its_writes_are_taken_back(app_engine, world, at):
    handle = record(Scripted, {})
    for step in (FIRST, CALL):
        app_engine.executor.forward(Scripted, step, handle.id)
    at(Point.AFTER_CALL, "extra", lambda: _turn_round(app_engine, handle.id))
    assert app_engine.executor.forward(Scripted, EXTRA, handle.id).verdict is Verdict.END
    assert "extra" not in world.local(handle.id)
    assert handle.record().steps["extra"].state == "waiting"
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "compensated"
    assert not world.stands(f"{handle.id}/call")


def test_turned_round_while_an_external_step_works_its_effect_is_recorded_and_undone(app_engine, world, at):
    handle = record(Scripted, {})
    app_engine.executor.forward(Scripted, FIRST, handle.id)
    at(Point.AFTER_CALL, "call", lambda: _turn_round(app_engine, handle.id))
    assert app_engine.executor.forward(Scripted, CALL, handle.id).verdict is Verdict.FAILED, "so the errback is called"
    assert handle.record().steps["call"].state == "done"
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "compensated"
    assert not world.stands(f"{handle.id}/call")


def test_compensating_waits_for_a_step_in_flight(app_engine, world, at):
    """What may still happen is not undone before it has; the one in flight settles it."""
    handle = record(Scripted, {})
    app_engine.executor.forward(Scripted, FIRST, handle.id)
    waits: list[float] = []

    def cancel_meanwhile() -> None:
        _turn_round(app_engine, handle.id)
        outcome = app_engine.executor.compensate(Scripted, handle.id)
        assert outcome.verdict is Verdict.LATER
        waits.append(outcome.wait)

    at(Point.AFTER_CLAIM, "call", cancel_meanwhile)
    app_engine.executor.forward(Scripted, CALL, handle.id)
    assert 0 < waits[0] <= CALL.lease
    assert "try:find" not in world.acts(handle.id), "nobody looks: who is at work says what came of it"
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "compensated"
    assert (world.acts(handle.id).count("book"), world.acts(handle.id).count("cancel")) == (1, 1)


@pytest.mark.parametrize("stale", ["fence", "state"])
def test_a_write_under_an_old_fence_or_from_an_old_state_is_refused(app_engine, world, db, stale):
    handle = record(Scripted, {})
    with app_engine.database.engine.connect() as connection:
        row = Store(connection).look(handle.id, "first").step
    change = "fence = fence + 1" if stale == "fence" else "state = 'skipped'"
    with app_engine.database.transaction() as connection:
        connection.execute(text(f"UPDATE saga_steps SET {change} WHERE name = 'first'"))
    before = rows(db, handle.id)
    write = StepWrite(step=row, to=StepState.DONE, saga_from=FORWARD, saga_to=SagaState.RUNNING, stage=1, next_in=1.0)
    with pytest.raises(ClaimLost), app_engine.database.transaction() as connection:
        Store(connection).write(handle.id, write)
    assert rows(db, handle.id) == before
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM sagas"))


def test_a_frozen_worker_cannot_hold_a_local_step_for_ever(app_engine, world):
    """The server ends a transaction that stands idle, so that a stopped process does not hold the step's row."""
    url = app_engine.database.engine.url.render_as_string(hide_password=False)
    frozen = Database(lambda: url, idle_in_transaction=1.0)
    handle = record(Scripted, {})
    with patiently(frozen.engine.connect) as holding:  # which the server may end as well, if it takes long
        assert Store(holding).look(handle.id, "first").step is not None
        ended, cause = app_engine.drive(Scripted, handle.id, patience=120)
        assert (ended.state, cause) == ("completed", None)
        with pytest.raises(DBAPIError):
            holding.execute(text("SELECT 1"))
    frozen.close()
