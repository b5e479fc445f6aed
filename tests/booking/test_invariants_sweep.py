"""The invariants' sweep: a row that breaks one calls somebody, once."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import text

from sagajobs.saga.sweeps import run


@pytest.fixture
def broken(app_engine, clean):
    """Insert an appointment that the database would refuse, had somebody not dropped a constraint."""
    name = "ck_appointments_no_orphaned_appointment"
    with app_engine.database.transaction() as connection:
        wanted = connection.execute(
            text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name"), {"name": name}
        ).scalar_one()
        connection.execute(text(f"ALTER TABLE appointments DROP CONSTRAINT {name}"))
        connection.execute(text("INSERT INTO customers (name, email, time_zone) VALUES ('n', 'e@example.org', 'UTC')"))

    def insert() -> int:
        with app_engine.database.transaction() as connection:
            return connection.execute(
                text(
                    "INSERT INTO appointments (customer_id, event_type_id, starts_at, ends_at, status) "
                    "SELECT id, 1, now(), now() + interval '1 h', 'scheduled' FROM customers RETURNING id"
                )
            ).scalar_one()

    yield insert
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM appointments"))
        connection.execute(text(f"ALTER TABLE appointments ADD CONSTRAINT {name} {wanted}"))


def test_invariants_that_hold(app_engine, clean, caplog):
    assert run(app_engine, app_engine.sweeps["invariants"]).found == 0
    assert [line for line in caplog.records if line.levelno == logging.CRITICAL] == []


def test_a_broken_invariant_is_said_once_and_again_when_it_gets_worse(app_engine, db, broken, caplog):
    sweep = app_engine.sweeps["invariants"]
    first = broken()
    with caplog.at_level(logging.CRITICAL, "saga"):
        assert run(app_engine, sweep).found == 1
        assert run(app_engine, sweep).found == 1
        second = broken()
        assert run(app_engine, sweep).found == 2
    said = [line.message for line in caplog.records if getattr(line, "event", "") == "invariant_broken"]
    assert len(said) == 2
    assert f"by 1 appointments: {first};" in said[0]
    assert f"by 2 appointments: {first}, {second};" in said[1]
    assert db.execute(text("SELECT found FROM sweeps WHERE name = 'invariants'")).scalar_one() == 2
