"""Sagas that the code cannot take up: they end with a person, never nowhere, and stop nobody else (G1, G4)."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from sagajobs.errors import DefinitionError
from sagajobs.saga import step
from sagajobs.saga.store import Store
from sagajobs.saga.sweep import recover
from tests.support.sagas import QUICK, Killed, Scripted, record

ASKED = "manual_review_required"


def nothing(self, _):
    return None


def bug(self, _):
    raise ValueError


def _renamed(app_engine, handle, old: str, new: str) -> None:
    """Have a step on record that this version of the code does not know."""
    with app_engine.database.transaction() as connection:
        connection.execute(
            text("UPDATE saga_steps SET name = :new WHERE saga_id = :id AND name = :old"),
            {"id": handle.id, "old": old, "new": new},
        )


def _reasons(db) -> list[str]:
    return list(db.execute(text("SELECT reason FROM review_cases")).scalars())


def test_an_input_that_a_newer_model_refuses(throwaway, db):
    class Newer(BaseModel):
        word: int

    kind = throwaway.kind(act=step(irreversible=True)(nothing))
    handle = record(kind, {"word": "confidential"})
    kind.Input = Newer
    assert throwaway.sweep(handle, rounds=4) == "pending", "not at once: a deployment may be under way"
    assert throwaway.sweep(handle) == ASKED
    assert _reasons(db) == ["the code cannot take it up"]


def test_a_result_whose_input_a_newer_model_refuses_quotes_nothing(throwaway, app_engine):
    class Newer(BaseModel):
        word: int

    kind = throwaway.kind(act=step(irreversible=True)(nothing))
    handle = record(kind, {"word": "confidential"})
    app_engine.drive(kind, handle.id)
    kind.Input = Newer
    with pytest.raises(DefinitionError, match="word") as caught:
        handle.result()
    assert "confidential" not in str(caught.value)


def test_a_condition_that_raises(throwaway):
    assert throwaway.sweep(throwaway.record(act=step(irreversible=True, when=lambda saga: 1 / 0)(nothing))) == ASKED


def test_a_condition_of_an_undo_that_raises(throwaway):
    act = step(nothing)
    act.compensation(when=lambda saga: 1 / 0)(nothing)
    assert throwaway.sweep(throwaway.record(act=act, fail=step(irreversible=True)(bug))) == ASKED


def test_a_done_step_that_the_code_no_longer_has_is_not_called_undone(throwaway, app_engine, world):
    handle = record(Scripted, {"script": {"last": ["bug"]}})
    for declared in Scripted.definition.steps[:3]:
        app_engine.executor.forward(Scripted, declared, handle.id)
    _renamed(app_engine, handle, "call", "former_call")
    assert throwaway.sweep(handle) == ASKED
    assert world.stands(f"{handle.id}/call")


def test_a_step_in_work_that_the_code_no_longer_has(throwaway, app_engine, db):
    handle = record(Scripted, {})
    _renamed(app_engine, handle, "first", "former_first")
    assert throwaway.sweep(handle) == ASKED
    (evidence,) = db.execute(text("SELECT evidence FROM review_cases")).scalars()
    assert "recorded with the steps former_first, call, extra, last" in evidence["error"]["message"]


def test_a_kind_that_the_code_no_longer_has(throwaway, app_engine, db):
    handle = record(Scripted, {})
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET name = 'former'"))
    assert throwaway.sweep(handle, rounds=10) == "pending", "a worker that knows it may be about"
    assert handle.record().hints == 0, "and its sweep must find it as it was"
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now() - interval '601 s'"))
    recover(app_engine)
    assert handle.status() == ASKED
    assert _reasons(db) == ["no code knows this kind of saga"]


def test_a_probe_that_kills_its_worker(throwaway, app_engine):
    class Killed(BaseException):
        pass

    looks = []

    def look(self, key):
        looks.append(key)
        raise Killed

    act = step(external=True, irreversible=True, retry=QUICK)(bug)
    act.probe(looks=2, over=0.0, retry=QUICK)(look)
    kind = throwaway.kind(act=act)
    handle = record(kind, {})
    for _ in range(30):
        throwaway.let_time_pass()
        with contextlib.suppress(Killed):
            app_engine.executor.forward(kind, act, handle.id)
    assert handle.status() == ASKED
    assert len(looks) == QUICK.max_attempts + 2 * 2 + 1


def test_a_call_that_kills_its_worker(throwaway, app_engine):
    """Each attempt is on record before its call: the next delivery counts on, whoever gets it."""
    calls = []

    def kill(self, key):
        calls.append(key)
        raise Killed

    act = step(external=True, irreversible=True, idempotent=True, retry=QUICK)(kill)
    kind = throwaway.kind(act=act)
    handle = record(kind, {})
    for _ in range(QUICK.max_attempts + 2):
        throwaway.let_time_pass()
        with contextlib.suppress(Killed):
            app_engine.executor.forward(kind, act, handle.id)
    assert handle.status() == ASKED
    assert len(calls) == QUICK.max_attempts


def test_one_that_cannot_even_be_read_does_not_keep_the_sweep_from_the_others(throwaway, app_engine):
    far = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12)))  # in UTC no year that Python knows
    poisoned = throwaway.record(act=step(irreversible=True)(nothing), useful_until=lambda self: far)
    throwaway.let_time_pass()
    other = record(Scripted, {})
    assert throwaway.sweep(other, rounds=1) == "completed"
    assert len(throwaway.worker.raised) == 1
    assert poisoned.status() == "pending"


def test_a_hint_that_cannot_be_published_does_not_keep_the_sweep_from_the_others(app_engine, throwaway, monkeypatch):
    tried = []

    def fail(kind, saga_id, stage):
        tried.append(saga_id)
        raise KeyError("no such queue")

    monkeypatch.setattr(throwaway.worker, "steps", fail)
    handles = [record(Scripted, {}), record(Scripted, {})]
    throwaway.let_time_pass()
    recover(app_engine)
    assert sorted(tried) == sorted(handle.id for handle in handles)


@pytest.mark.parametrize("hints", [0, 20])
def test_a_database_that_is_busy_is_not_the_codes_fault(throwaway, app_engine, monkeypatch, hints):
    handle = record(Scripted, {})
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET hints = :hints"), {"hints": hints})

    def away(*_):
        raise OperationalError("", {}, Exception("gone"))

    with monkeypatch.context() as patch:
        patch.setattr(Store, "look", away)
        with pytest.raises(OperationalError):
            app_engine.executor.forward(Scripted, Scripted.definition.steps[0], handle.id)
    assert handle.status() == "pending"
