"""What all sagas come to: counted once, from whatever happened to them, never less than before."""

from __future__ import annotations

import itertools
import threading
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen, remove

from sagajobs.desk import metrics
from sagajobs.desk.metrics import read
from sagajobs.errors import SagaCompensationException, SagaException
from sagajobs.saga import SagaOrchestrator
from sagajobs.saga import totals as counting
from sagajobs.saga.totals import BOUNDS, add_up, caught_up, totals
from tests.support.sagas import Scripted, record
from tests.support.tables import change
from tests.support.totalling import counts, ends, figures, sums
from tests.support.wide import Locking

pytestmark = pytest.mark.usefixtures("world", "_quiet")


def carried_out(app_engine, **script: list[str]):
    handle = record(Scripted, {"script": script})
    app_engine.drive(Scripted, handle.id)
    return handle


def test_each_kind_of_history_counts_as_what_it_is(app_engine):
    carried_out(app_engine)
    assert counts(app_engine) == {("execution_ms", "completed"): 1, ("lock_wait_ms", ""): 1}
    # Tried twice, put off once, which is no attempt.
    carried_out(app_engine, first=["transient", "deferred", "ok"])
    assert counts(app_engine)["retries", "step"] == 1
    assert ("failed", "") not in counts(app_engine)
    # Undone; the undo needs a second attempt.
    carried_out(app_engine, last=["bug"], cancel=["transient", "ok"])
    assert counts(app_engine) == {
        ("execution_ms", "completed"): 2,
        ("execution_ms", "compensated"): 1,
        ("compensation_ms", ""): 1,
        ("lock_wait_ms", ""): 3,
        ("failed", ""): 1,
        ("retries", "step"): 1,
        ("retries", "undo"): 1,
    }
    # An optional step's failure is none of the saga's.
    carried_out(app_engine, extra=["bug"])
    assert counts(app_engine)["failed", ""] == 1
    # An undo that fails for good counts at once, though the saga has not ended.
    asked = carried_out(app_engine, last=["bug"], cancel=["permanent"])
    assert asked.status() == "manual_review_required"
    assert (counts(app_engine)["critical", ""], counts(app_engine)["failed", ""]) == (1, 2)
    before = counts(app_engine)
    app_engine.review.abandon(app_engine.review.of(asked.id).number, who="Ann", why="to see")
    after = counts(app_engine)
    assert after.pop(("execution_ms", "abandoned")) == 1
    assert after == before | {("lock_wait_ms", ""): before["lock_wait_ms", ""] + 1}


def test_a_saga_counts_as_failed_once_it_has_turned_round(app_engine):
    handle = record(Scripted, {"script": {"call": ["permanent"]}})
    for name in ("first", "call"):
        app_engine.executor.forward(Scripted, Scripted.definition.step(name), handle.id)
    assert handle.status() == "compensating"
    assert counts(app_engine) == {("failed", ""): 1}
    handle.pause(who="Ann", why="to see")
    assert counts(app_engine) == {("failed", ""): 1}
    handle.resume(who="Ann", why="seen")
    app_engine.drive(Scripted, handle.id)
    assert (handle.status(), counts(app_engine)["failed", ""]) == ("compensated", 1)


def test_orchestrated_sagas_are_one_kind(app_engine):
    def fail() -> None:
        raise ValueError

    def undo() -> None:
        raise KeyError

    done = SagaOrchestrator("of a caller's own", engine=app_engine)
    done.execute_step("one", lambda: 1)
    done.complete()
    undone = SagaOrchestrator("of another's", engine=app_engine)
    undone.execute_step("one", lambda: 1, lambda _: None)
    with pytest.raises(SagaException):
        undone.execute_step("two", fail)
    assert ends(app_engine) == {("orchestrated", "completed"): 1, ("orchestrated", "compensated"): 1}
    asked = SagaOrchestrator("of a third", engine=app_engine, undo_retry=Scripted.definition.steps[0].retry)
    asked.execute_step("one", lambda: 1, undo)
    with pytest.raises(SagaCompensationException):
        asked.execute_step("two", fail)
    assert (counts(app_engine)["critical", ""], counts(app_engine)["failed", ""]) == (1, 2)
    change(app_engine, "DELETE FROM sagas")


def test_times_are_those_of_start_turning_round_and_end(app_engine):
    done = carried_out(app_engine, last=["bug"], cancel=["permanent", "ok"])
    app_engine.review.retry(app_engine.review.of(done.id).number, who="Ann", why="it should work now")
    app_engine.drive(Scripted, done.id)
    change(app_engine, "UPDATE sagas SET created_at = ended_at - interval '90 s', ended_at = ended_at WHERE true")
    with app_engine.database.transaction() as connection:
        connection.execute(text("ALTER TABLE saga_events DISABLE TRIGGER saga_history_stands"))
        connection.execute(text("UPDATE saga_events SET at = (SELECT ended_at FROM sagas)"))
        back = text("UPDATE saga_events SET at = at - interval '7 s' WHERE event = 'step_failed'")
        assert connection.execute(back).rowcount == 1
        connection.execute(text("ALTER TABLE saga_events ENABLE TRIGGER saga_history_stands"))
    assert done.status() == "compensated"
    with app_engine.database.reading() as connection:
        found = {one.measure: (one.upto, one.n, round(one.total)) for one in totals(connection)}
    assert found["execution_ms"] == (300_000, 1, 90_000)
    assert found["compensation_ms"] == (10_000, 1, 7_000)
    assert found["lock_wait_ms"] == (BOUNDS[0], 1, 0)
    assert found["failed"] == (float("inf"), 1, 0)


def test_the_wait_for_a_lock_is_in_the_history_of_who_had_to_wait(app_engine, begin, broker, db):
    first, second = (record(Locking, {"resources": ["a"]}) for _ in range(2))
    begin(first)
    begin(second)
    change(app_engine, "UPDATE saga_locks SET since = since - interval '90 s' WHERE NOT held")
    app_engine.drive(Locking, first.id)
    broker.drain()
    assert second.status() == "completed"
    waited = text("SELECT saga_id, detail FROM saga_events WHERE event = 'lock_acquired'")
    ((who, detail),) = db.execute(waited).all()
    assert (str(who), 90_000 <= detail["waited_ms"] < 300_000) == (second.id, True)
    upto = {key[3] for key in figures(app_engine) if key[1] == "lock_wait_ms"}
    assert upto == {BOUNDS[0], 300_000.0}


def test_others_are_not_told_of_the_wait(app_engine, begin, broker, db):
    """It is written while another saga's row is locked, so its number in the outbox could be out of order."""
    change(app_engine, "INSERT INTO switches (name, value, set_by, why) VALUES ('saga.events', true, 'a', 'b')")
    first, second = (record(Locking, {"resources": ["a"]}) for _ in range(2))
    begin(first)
    begin(second)
    app_engine.drive(Locking, first.id)
    broker.drain()
    told = set(db.execute(text("SELECT event FROM outbox WHERE saga_id = :id"), {"id": second.id}).scalars())
    kept = set(db.execute(text("SELECT event FROM saga_events WHERE saga_id = :id"), {"id": second.id}).scalars())
    assert kept - told == {"lock_acquired"}


def test_the_wait_counts_also_where_nobody_handed_the_lock_on(app_engine, begin, broker, db):
    """The holder has ended, and its row stands: whoever looks next takes it."""
    first, second = (record(Locking, {"resources": ["a"]}) for _ in range(2))
    begin(first)
    begin(second)
    change(app_engine, "UPDATE saga_locks SET since = since - interval '90 s' WHERE NOT held")
    change(app_engine, "DELETE FROM saga_locks WHERE held")
    app_engine.drive(Locking, second.id)
    assert db.execute(text("SELECT count(*) FROM saga_events WHERE event = 'lock_acquired'")).scalar_one() == 1
    app_engine.drive(Locking, first.id)
    broker.drain()


def test_adding_up_changes_no_figure_and_is_done_once(app_engine, db):
    for script in ({}, {"first": ["transient", "ok"]}, {"last": ["bug"], "cancel": ["transient", "ok"]}):
        carried_out(app_engine, **script)
    asked = carried_out(app_engine, last=["bug"], cancel=["permanent"])
    before = figures(app_engine)
    assert add_up(app_engine.database, batch=2) == 3
    assert add_up(app_engine.database) == 0
    assert figures(app_engine) == before
    app_engine.review.abandon(app_engine.review.of(asked.id).number, who="Ann", why="to see")
    change(app_engine, "DELETE FROM saga_steps")
    before = figures(app_engine)
    assert add_up(app_engine.database) == 1
    change(app_engine, "DELETE FROM sagas")
    assert figures(app_engine) == before


def test_what_has_not_been_committed_is_not_passed_over(app_engine):
    """A saga whose end was written before others', and committed after they had been added up, is not lost."""
    slow, quick = (record(Scripted, {}) for _ in range(2))
    end = text(
        "UPDATE sagas SET state = 'completed', next_at = NULL, ended_at = saga_now() - interval '1 h' "
        "WHERE id = CAST(:id AS uuid)"
    )
    with app_engine.database.transaction() as connection:
        connection.execute(end, {"id": slow.id})
        app_engine.drive(Scripted, quick.id)
        assert add_up(app_engine.database) == 1
    assert add_up(app_engine.database) == 1
    assert ends(app_engine) == {("scripted", "completed"): 2}


def test_two_that_add_up_at_once_and_a_reader_agree(app_engine):
    for number in range(30):
        carried_out(app_engine, **({"last": ["bug"]} if number % 3 == 0 else {}))
    before = figures(app_engine)
    seen: list[dict] = []
    adding = [threading.Thread(target=add_up, args=(app_engine.database,), kwargs={"batch": 2}) for _ in range(3)]
    for one in adding:
        one.start()
    while any(one.is_alive() for one in adding):
        seen.append(figures(app_engine))
    add_up(app_engine.database)
    assert all(one == before for one in [*seen, figures(app_engine)])


def test_a_sum_of_times_does_not_depend_on_who_has_added_up_what(app_engine):
    for _ in range(40):
        carried_out(app_engine)
    before = sums(app_engine)
    assert before["scripted", "execution_ms", "completed"] > 0
    while add_up(app_engine.database, batch=3, budget=0.0):
        assert sums(app_engine) == before


def without_a_sweep(app_engine, many: int) -> None:
    """Have so many ended sagas wait to be added up, before all others that will: one of them, so many times over."""
    ended = carried_out(app_engine)
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM saga_uncounted"))
        same = text("INSERT INTO saga_uncounted (saga_id) SELECT CAST(:id AS uuid) FROM generate_series(1, :many)")
        connection.execute(same, {"id": ended.id, "many": many})


def counters(app_engine) -> dict[tuple, float]:
    """Return what a scrape tells of all sagas there ever were, nothing if it leaves that out."""
    told = [one for one in read(app_engine, circuit=None, quota=None) if one.type in ("counter", "histogram")]
    samples = [sample for one in told for sample in one.samples]
    return {(one.name, *sorted(one.labels.items())): one.value for one in samples}


def test_with_no_sweep_for_long_nothing_counted_is_left_out(app_engine):
    """What a saga under way has counted for must not be missing once it has ended behind thousands of others."""
    asked = carried_out(app_engine, last=["bug"], cancel=["permanent"])
    before = counts(app_engine)
    without_a_sweep(app_engine, counting.READ_AT_ONCE + counting.BATCH)
    app_engine.review.abandon(app_engine.review.of(asked.id).number, who="Ann", why="to see")
    assert not caught_up(app_engine.database, patience=0.0)
    assert read(app_engine, circuit=None, quota=None)
    while not caught_up(app_engine.database, patience=0.0):
        assert read(app_engine, circuit=None, quota=None)
    after = counts(app_engine)
    assert {key: after[key] for key in (("critical", ""), ("failed", ""))} == {
        key: before[key] for key in (("critical", ""), ("failed", ""))
    }


def test_without_a_sweep_each_scrape_does_a_bounded_part_and_no_counter_falls(app_engine, monkeypatch):
    """As fast as sagas end it comes along; meanwhile it tells no counters rather than such as fall."""
    monkeypatch.setattr(metrics, "caught_up", partial(caught_up, patience=0.0))
    batch, behind = counting.BATCH, 7 * counting.BATCH
    sagas = [carried_out(app_engine, last=["bug"], cancel=["permanent"]) for _ in range(3)]
    told, statements = [counters(app_engine)], []
    without_a_sweep(app_engine, behind)
    listen(app_engine.database.engine, "before_cursor_execute", note := lambda *of: statements.append(of[2]))
    asked = []
    for number in range(behind // batch + len(sagas)):
        if number % 3 == 2:
            case = app_engine.review.of(sagas[number // 3].id).number
            app_engine.review.abandon(case, who="Ann", why="to see")
        statements.clear()
        told.append(counters(app_engine))
        asked.append(len(statements))
    remove(app_engine.database.engine, "before_cursor_execute", note)
    assert told[1:3] == [{}, {}], "it is known to be too much"
    assert max(asked) <= min(asked) + 3, "however much waits, a batch and a look more"
    known = [one for one in told if one]
    assert len(known) > len(sagas)
    for earlier, later in itertools.pairwise(known):
        assert all(later[key] >= value for key, value in earlier.items())
    kind = ("saga", "scripted")
    whole = {key: value for key, value in known[-1].items() if kind in key}
    assert whole["saga_critical_failures_total", kind] == len(sagas)
    assert whole["saga_execution_time_ms_count", ("end", "abandoned"), kind] == len(sagas)
    assert whole["saga_execution_time_ms_count", ("end", "completed"), kind] == behind
    assert add_up(app_engine.database) <= batch + len(sagas)
    assert counters(app_engine) == known[-1]
