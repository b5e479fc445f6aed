"""Instead of failing: a step that marks something for retry, and one that holds back while the other side is away."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import text

from sagajobs.errors import (
    DefinitionError,
    PermanentError,
    SagaCompensationException,
    SagaException,
    SagaNotFinished,
    TransientError,
)
from sagajobs.saga import RetryPolicy, SagaHandle, step
from sagajobs.saga.sweep import recover
from tests.support.sagas import QUICK, Killed, record
from tests.support.throwaway import Throwaway

SLOWLY = RetryPolicy(max_attempts=3, base=3600.0, max_delay=7200.0, jitter=0.0)
MARK = "INSERT INTO test_local (saga_id, step) VALUES (:id, 'marked')"


@pytest.fixture
def throwaway(app_engine, world, monkeypatch) -> Throwaway:
    """As in conftest.py, but what is left in flight stays, to be found by `clean`."""
    monkeypatch.setattr(app_engine, "publisher", None)
    return Throwaway(app_engine)


def mark(self, db, error) -> None:
    db.execute(text(MARK), {"id": self.id})


def failing(times: int, error: Exception):
    """Return a step's body that fails so often, and then does not."""
    tried = itertools.count()

    def body(self, _argument):
        if next(tried) < times:
            raise error
        return "done"

    return body


def past_the_pivot(body, marking=mark, **options):
    """Return a class body: a pivot, the step in question, and one more."""
    act = step(retry=QUICK, **options)(body)
    act.degradation(retry=SLOWLY)(marking)
    return {
        "pivot": step(pivot=True)(lambda self, db: "out"),
        "act": act,
        "last": step(irreversible=True)(lambda self, db: "end"),
    }


def due(app_engine) -> None:
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now() WHERE next_at IS NOT NULL"))
        connection.execute(text("UPDATE saga_steps SET due_at = NULL"))


def events(db, handle, name: str) -> list:
    rows = db.execute(text("SELECT * FROM saga_events WHERE saga_id = :id ORDER BY id"), {"id": handle.id})
    return [row for row in rows if row.event == name]


def only_saga(db) -> SagaHandle:
    return SagaHandle(str(db.execute(text("SELECT id FROM sagas")).scalar_one()))


def test_past_the_pivot_a_failure_is_marked_and_the_saga_is_partial(throwaway, world, db, app_engine):
    kind = throwaway.kind(**past_the_pivot(failing(4, TransientError("no"))))
    with pytest.raises(SagaNotFinished, match="is partial"):
        kind.run({})
    handle = only_saga(db)
    assert handle.status() == "partial"
    assert world.local(handle.id) == ["marked"]
    (said,) = events(db, handle, "step_degraded")
    assert said.detail["delay"] == 3600.0
    in_an_hour = db.execute(text("SELECT extract(epoch FROM next_at - saga_now()) FROM sagas")).scalar_one()
    assert 3000 < in_an_hour <= 3600
    assert recover(app_engine) == 0, "it is not due yet"
    due(app_engine)
    recover(app_engine)
    assert (handle.status(), world.local(handle.id)) == ("partial", ["marked", "marked"])
    assert handle.record().steps["act"].attempts == QUICK.max_attempts + 1
    due(app_engine)
    recover(app_engine)
    assert handle.status() == "completed"
    assert handle.result() == {"pivot": "out", "act": "done", "last": "end"}


def test_past_the_pivot_a_failure_for_good_is_marked_at_once(throwaway, world, db):
    kind = throwaway.kind(**past_the_pivot(failing(1, PermanentError("never"))))
    with pytest.raises(SagaNotFinished):
        kind.run({})
    handle = only_saga(db)
    assert (handle.status(), world.local(handle.id)) == ("partial", ["marked"])
    assert throwaway.sweep(handle) == "completed"


def test_the_slow_attempts_used_up_a_person_is_asked(throwaway, world, db):
    kind = throwaway.kind(**past_the_pivot(failing(100, TransientError("no"))))
    handle = record(kind, {})
    assert throwaway.sweep(handle) == "manual_review_required"
    assert handle.record().steps["act"].attempts == QUICK.max_attempts + SLOWLY.max_attempts
    assert world.local(handle.id) == ["marked"] * SLOWLY.max_attempts
    case = db.execute(text("SELECT reason, was FROM review_cases")).one()
    assert case.reason == "tried again in vain"


def test_what_cannot_even_be_marked_is_critical(throwaway, world, db, caplog):
    def cannot(self, db, error):
        raise ValueError("no such column")

    kind = throwaway.kind(**past_the_pivot(failing(100, TransientError("no")), cannot))
    with pytest.raises(SagaCompensationException) as caught:
        kind.run({})
    assert caught.value.failed_step == "act"
    assert caught.value.failed_compensations == {"act": "it could not be marked for retry"}
    assert only_saga(db).status() == "manual_review_required"
    assert db.execute(text("SELECT reason FROM review_cases")).scalar_one() == "it could not even be marked for retry"
    assert "CRITICAL: Compensation failed" in caplog.text
    assert "CRITICAL: Manual review required" in caplog.text


def test_before_the_pivot_it_is_marked_when_its_attempts_are_used_up_and_undone_when_refused(throwaway, world, db):
    def declared(body):
        act = step(retry=QUICK)(body)
        act.degradation(retry=SLOWLY)(mark)
        act.compensation(lambda self, db: None)
        return {"act": act}

    kind = throwaway.kind(**declared(failing(QUICK.max_attempts, TransientError("away"))))
    with pytest.raises(SagaNotFinished, match="is running"):
        kind.run({})
    handle = only_saga(db)
    assert (handle.status(), world.local(handle.id)) == ("running", ["marked"])
    assert throwaway.sweep(handle) == "completed"

    kind = throwaway.kind(**declared(failing(1, PermanentError("refused"))))
    with pytest.raises(SagaException):
        kind.run({})


def test_the_last_step_ends_a_partial_saga(throwaway, db):
    body = past_the_pivot(failing(QUICK.max_attempts, TransientError("no")))
    del body["last"]
    handle = record(throwaway.kind(**body), {})
    throwaway.let_time_pass()
    assert throwaway.sweep(handle) == "completed"
    assert events(db, handle, "saga_completed")


def test_an_external_step_whose_calls_never_happened_is_marked_too(throwaway, world, db):
    """Each call times out and nothing is there: the probe says so, and the attempts go on from quick to slow."""
    act = step(external=True, retry=QUICK)(failing(QUICK.max_attempts + 1, TimeoutError("?")))
    act.probe(looks=1, over=0.0, retry=QUICK)(lambda self, key: None)
    act.degradation(retry=SLOWLY)(mark)
    act.compensation(lambda self, result: None)
    handle = record(throwaway.kind(act=act), {})
    assert throwaway.sweep(handle, rounds=60) == "completed"
    assert world.local(handle.id) == ["marked", "marked"]


def test_while_it_holds_nothing_is_counted_and_nothing_is_written(throwaway, app_engine, db):
    wait = [700.0]
    done = []
    act = step(external=True, irreversible=True, retry=QUICK, hold=lambda saga: wait[0])(
        lambda self, key: done.append(key)
    )
    act.probe(looks=1, over=0.0)(lambda self, key: None)
    handle = record(throwaway.kind(act=act), {})
    for _ in range(50):
        throwaway.let_time_pass()
        recover(app_engine)
    record_ = handle.record()
    assert (record_.state, record_.steps["act"].attempts, record_.hints, done) == ("pending", 0, 0, [])
    assert [row.event for row in db.execute(text("SELECT event FROM saga_events"))] == ["saga_created"]
    left = db.execute(text("SELECT extract(epoch FROM next_at - saga_now()) FROM sagas")).scalar_one()
    assert 500 < left <= 700
    wait[0] = 0.0
    assert throwaway.sweep(handle) == "completed"
    assert len(done) == 1


def test_probes_and_undos_hold_as_well(throwaway, app_engine, db):
    wait = [0.0]
    looks, undone = [], []

    def call(self, key):
        wait[0] = 5.0
        raise TimeoutError

    def look(self, key):
        looks.append(key)
        wait[0] = 5.0
        return "found"

    def sweep(times: int) -> None:
        for _ in range(times):
            throwaway.let_time_pass()
            recover(app_engine)

    act = step(external=True, retry=QUICK, hold=lambda saga: wait[0])(call)
    act.probe(looks=1, over=0.0, retry=QUICK)(look)
    act.compensation(lambda self, result: undone.append(result))
    refuse = step(irreversible=True)(failing(1, PermanentError("no")))
    handle = record(throwaway.kind(act=act, refuse=refuse), {})
    sweep(20)
    assert (str(handle.record().steps["act"].state), looks) == ("unknown", [])
    wait[0] = 0.0
    sweep(20)
    assert (handle.status(), len(looks), undone) == ("compensating", 1, [])
    wait[0] = 0.0
    assert throwaway.sweep(handle) == "compensated"
    assert undone == ["found"]


def test_until_it_is_its_turn_an_attempt_costs_nothing_and_probes_and_undos_do_not_wait_for_theirs(
    throwaway, app_engine, db
):
    waits = {0: 7.0, 1: 0.0}
    asked, looks, undone = [], [], []

    def turn(_saga, item: int) -> float:
        asked.append(item)
        return waits[item]

    def call(_saga, _key, item):
        waits[item] = 9.0
        raise TimeoutError

    act = step(external=True, retry=QUICK, each=lambda _saga: 2, turn=turn)(call)
    act.probe(looks=1, over=0.0, retry=QUICK)(lambda self, key, item: looks.append(item) or "found")
    act.compensation(lambda self, result, item: undone.append(item))
    refuse = step(irreversible=True)(failing(1, PermanentError("no")))
    begin = step(irreversible=True)(lambda self, db: None)
    handle = record(throwaway.kind(begin=begin, act=act, refuse=refuse), {})
    for _ in range(20):
        throwaway.let_time_pass()
        recover(app_engine)
    steps = handle.record().steps
    assert [str(steps[f"act[{item}]"].state) for item in (0, 1)] == ["waiting", "done"]
    assert (steps["act[0]"].attempts, steps["act[1]"].attempts, looks) == (0, 1, [1])
    assert [row.event for row in db.execute(text("SELECT event FROM saga_events WHERE step = 'act[0]'"))] == []
    assert (asked.count(1), asked.count(0) > 10) == (1, True)
    waits[0] = 0.0
    assert throwaway.sweep(handle) == "compensated"
    assert (sorted(looks), sorted(undone)) == ([0, 1], [0, 1])


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: step(optional=True)(lambda self, db: None), "an optional step may fail"),
        (lambda: step(irreversible=True, hold=lambda saga: 0.0)(lambda self, db: None), "external=True"),
        (lambda: step(irreversible=True, turn=lambda saga: 0.0)(lambda self, db: None), "external=True"),
    ],
)
def test_what_cannot_work_is_refused_at_import(throwaway, declare, said):
    act = declare()
    act.degradation(retry=SLOWLY)(mark)
    with pytest.raises(DefinitionError, match=said):
        throwaway.kind(act=act)


def test_every_retry_leaves_what_a_prediction_can_learn_from(throwaway, db):
    kind = throwaway.kind(
        act=step(irreversible=True, retry=QUICK)(failing(2, TransientError("no"))),
        conditions=classmethod(lambda cls: {"circuit": "closed"}),
    )
    kind.run({})
    handle = only_saga(db)
    retries = events(db, handle, "step_retry")
    assert [row.attempt for row in retries] == [1, 2]
    for row in retries:
        assert row.detail["error"] == "sagajobs.errors.TransientError"
        assert (row.detail["kind"], row.detail["circuit"]) == ("transient", "closed")
        assert row.detail["delay"] > 0
    (outcome,) = events(db, handle, "step_completed")
    assert outcome.attempt == 3


@pytest.mark.parametrize("dies", [False, True])
def test_a_retry_of_what_was_seen_not_to_have_happened_leaves_it_too(throwaway, db, dies):
    """No answer, and a look sees nothing. Where the worker dies in its second try, the first one's error is not its."""
    tries = iter([TransientError("no"), Killed() if dies else TimeoutError("no answer"), None])

    def call(self, key: str) -> str:
        if error := next(tries):
            raise error
        return key

    act = step(external=True, irreversible=True, retry=QUICK, timeout=1)(call)
    act.probe(looks=1, over=0.0, retry=QUICK)(lambda self, key: None)
    kind = throwaway.kind(act=act, conditions=classmethod(lambda cls: {"circuit": "open"}))
    handle = record(kind, {})
    if dies:
        with pytest.raises(Killed):
            throwaway.sweep(handle)
    assert throwaway.sweep(handle) == "completed"
    first, second = events(db, handle, "step_retry")
    assert (first.detail["error"], first.detail["kind"]) == ("sagajobs.errors.TransientError", "transient")
    assert second.attempt == 2
    assert second.detail == {
        "error": "NeverHappened" if dies else "builtins.TimeoutError",
        "kind": "ambiguous",
        "circuit": "open",
        "delay": 0.0,
        "probe": "it did not happen",
    }


def test_what_is_marked_for_retry_is_not_blamed_on_an_earlier_error(throwaway, db):
    """The last of the quick tries ends without a word, as its worker dies in it."""
    no = TransientError("no")
    tries = iter([*[no] * (QUICK.max_attempts - 1), Killed(), None])

    def call(self, key: str) -> str:
        if error := next(tries):
            raise error
        return key

    parts = past_the_pivot(call, external=True, irreversible=True, timeout=1)
    parts["act"].probe(looks=1, over=0.0, retry=QUICK)(lambda self, key: None)
    handle = record(throwaway.kind(**parts), {})
    with pytest.raises(Killed):
        throwaway.sweep(handle)
    assert throwaway.sweep(handle) == "completed"
    (marked,) = events(db, handle, "step_degraded")
    assert (marked.detail["error"], marked.detail["kind"]) == ("NeverHappened", "ambiguous")


NOTE = "INSERT INTO test_local (saga_id, step) VALUES (:id, 'noted')"


def test_the_application_s_own_tables_show_that_a_person_is_asked(throwaway, world, db):
    def note(self, db) -> None:
        db.execute(text(NOTE), {"id": self.id})

    kind = throwaway.kind(**past_the_pivot(failing(100, TransientError("no"))), note_review=note)
    handle = record(kind, {})
    assert throwaway.sweep(handle) == "manual_review_required"
    assert world.local(handle.id) == ["marked"] * SLOWLY.max_attempts + ["noted"]


def test_a_person_is_asked_even_if_those_tables_take_nothing(throwaway, world, db, caplog):
    def note(self, db) -> None:
        db.execute(text(NOTE), {"id": self.id})
        db.execute(text("SELECT 1 / 0"))

    kind = throwaway.kind(**past_the_pivot(failing(100, TransientError("no"))), note_review=note)
    handle = record(kind, {})
    assert throwaway.sweep(handle) == "manual_review_required"
    assert "noted" not in world.local(handle.id)
    assert db.execute(text("SELECT count(*) FROM review_cases")).scalar_one() == 1
    (said,) = [one for one in caplog.records if one.name == "sagajobs.saga.noting"]
    assert said.levelname == "CRITICAL"
    assert handle.id in said.message
