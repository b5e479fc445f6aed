"""The lifecycle events: the seed's eight by name, on the log channel `saga` and in the history alike."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs.errors import SagaCompensationException, SagaException
from sagajobs.saga.events import Lifecycle
from sagajobs.testing.broker import HandBroker
from tests.support.sagas import Scripted

SEED = [
    "saga_created",
    "step_executing",
    "step_completed",
    "step_failed",
    "compensation_started",
    "compensation_completed",
    "compensation_failed",
    "saga_completed",
]


@pytest.fixture
def said(world, caplog, db):
    """Run a saga as its script says; return its log, as event and step, and its history."""

    def run(expected: type[Exception] | None = None, **script: list[str]) -> tuple[list[tuple], list[tuple]]:
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "saga"):
            if expected is None:
                Scripted.run({"script": script})
            else:
                with pytest.raises(expected):
                    Scripted.run({"script": script})
        db.rollback()
        saga_id = db.execute(text("SELECT id::text FROM sagas ORDER BY created_at DESC LIMIT 1")).scalar_one()
        written = [record for record in caplog.records if record.name == "saga"]
        assert {(record.saga_id, record.saga) for record in written} == {(saga_id, "scripted")}
        assert all(saga_id in record.getMessage() for record in written)
        assert all(record.attempt == 1 for record in written if record.event == "step_completed")
        query = text("SELECT event, step FROM saga_events WHERE saga_id = :id ORDER BY id")
        history = [tuple(row) for row in db.execute(query, {"id": saga_id})]
        return [(record.event, record.step) for record in written], history

    return run


def test_the_seeds_eight_are_all_told(said):
    logged, history = set(), set()
    for expected, script in [
        (None, {}),
        (SagaException, {"last": ["bug"]}),
        (SagaCompensationException, {"last": ["bug"], "cancel": ["permanent"]}),
    ]:
        log, rows = said(expected, **script)
        logged |= {event for event, _ in log}
        history |= {event for event, _ in rows}
    assert set(SEED) <= logged
    assert set(SEED) <= history
    assert set(SEED) <= set(Lifecycle)


def test_the_log_tells_what_the_history_does_and_of_local_steps_when_they_begin(said):
    """Of a local step's beginning there is no row: what is on record of it is committed with its end."""
    log, history = said(last=["ok"])
    begun = [("step_executing", name) for name in ("first", "extra", "last")]
    assert [one for one in log if one not in begun] == history
    assert [one for one in log if one in begun] == begun
    assert log[:3] == [("saga_created", None), ("step_executing", "first"), ("step_completed", "first")]


def test_a_critical_one_is_logged_as_such(said, caplog):
    said(SagaCompensationException, last=["bug"], cancel=["permanent"])
    levels = {record.event: record.levelname for record in caplog.records if record.name == "saga"}
    assert (levels["compensation_failed"], levels["step_failed"]) == ("CRITICAL", "WARNING")
    assert (levels["saga_created"], levels["step_executing"]) == ("INFO", "DEBUG")


@pytest.mark.parametrize("commits", [True, False])
def test_of_a_start_in_the_callers_transaction_nothing_is_said_before_its_commit(
    world, app_engine, monkeypatch, caplog, commits
):
    monkeypatch.setattr(app_engine, "publisher", HandBroker(app_engine))
    with caplog.at_level(logging.INFO, "saga"), Session(app_engine.database.engine) as session:
        handle = Scripted.enqueue({}, session=session)
        assert caplog.records == []
        if commits:
            session.commit()
        else:
            session.rollback()
    said = [(record.event, record.saga_id) for record in caplog.records if record.name == "saga"]
    assert said == ([("saga_created", handle.id)] if commits else [])
    app_engine.publisher.drain()
