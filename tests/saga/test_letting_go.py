"""A saga that holds its locks only while it is at work: nobody waits for what it waits for (`Saga.lets_go`)."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs.saga.act import Verdict
from sagajobs.saga.sweep import recover
from tests.support.sagas import record
from tests.support.throwaway import let_time_pass
from tests.support.wide import Held, Locking, Patient


@pytest.fixture
def held(app_engine, world) -> Held:
    held = Held(app_engine)
    held.create()
    return held


@pytest.fixture
def away(monkeypatch):
    """What it looks at is away for a while."""
    monkeypatch.setattr(Patient, "wait", 5.0)
    return lambda: monkeypatch.setattr(Patient, "wait", 0.0)


def wants(kind, **script: list[str]):
    return record(kind, {"resources": ["a"], "script": script})


def line(db) -> list[tuple[str, bool]]:
    """Return who holds the resource, and who waits for it."""
    db.rollback()
    rows = db.execute(text("SELECT saga_id, held FROM saga_locks ORDER BY held DESC, place"))
    return [(str(row.saga_id), row.held) for row in rows]


def history(db, handle) -> int:
    db.rollback()
    return db.execute(text("SELECT count(*) FROM saga_events WHERE saga_id = :id"), {"id": handle.id}).scalar_one()


def test_who_is_held_back_holds_nothing(app_engine, broker, forward, held, away, db):
    patient, other = wants(Patient), wants(Locking)
    forward(patient, "begin", Patient)
    assert line(db) == [(patient.id, True)]
    forward(other, "begin", Locking)
    lines = history(db, patient)
    assert forward(patient, "look", Patient).verdict is Verdict.LATER
    assert line(db) == [(other.id, True)], "handed to who waits"
    assert [(message.saga_id, message.step) for message in broker.messages] == [(other.id, "begin")], "and told"
    broker.drain()
    assert (other.status(), line(db)) == ("completed", [])
    assert (patient.record().steps["look"].attempts, history(db, patient)) == (0, lines)
    away()
    let_time_pass(app_engine)
    recover(app_engine)
    broker.drain()
    assert (patient.status(), line(db)) == ("completed", [])


@pytest.mark.parametrize("trouble", ["transient", "deferred"])
def test_between_two_attempts_it_holds_nothing(app_engine, broker, forward, held, db, trouble):
    patient, other = wants(Patient, look=[trouble, "ok"]), wants(Locking)
    forward(patient, "begin", Patient)
    forward(patient, "look", Patient)
    assert (patient.record().steps["look"].state, line(db)) == ("waiting", [])
    app_engine.drive(Locking, other.id)
    assert other.status() == "completed"
    app_engine.drive(Patient, patient.id)
    assert patient.status() == "completed"


def test_it_waits_its_turn_to_look_again_and_is_told(app_engine, broker, forward, held, db):
    patient, other = wants(Patient, look=["transient", "ok"]), wants(Locking)
    forward(patient, "begin", Patient)
    forward(patient, "look", Patient)
    forward(other, "begin", Locking)
    let_time_pass(app_engine)
    assert forward(patient, "look", Patient).verdict is Verdict.LATER
    assert line(db) == [(other.id, True), (patient.id, False)]
    app_engine.drive(Locking, other.id)
    assert [(message.saga_id, message.step) for message in broker.messages] == [(patient.id, "look")]
    broker.drain()
    assert (patient.status(), patient.record().steps["look"].attempts) == ("completed", 2)
    assert held.overlaps() == []


def test_from_its_pivot_on_it_holds_what_it_has(app_engine, broker, forward, held, db):
    patient = wants(Patient, end=["transient", "ok"])
    for name in ("begin", "look", "end"):
        forward(patient, name, Patient)
    assert (patient.record().steps["end"].state, line(db)) == ("waiting", [(patient.id, True)])
    app_engine.drive(Patient, patient.id)
    assert (patient.status(), line(db)) == ("completed", [])
