"""The invariants: the database refuses what would break one; where it does not, the sweep calls somebody, once."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from sagajobs.booking.invariants import check
from sagajobs.saga.sweeps import run


@pytest.fixture
def without(app_engine, clean):
    """Take constraints off the appointments, as somebody might; they are back, and the rows gone, at the end."""
    taken = {}

    def take(name: str) -> None:
        with app_engine.database.transaction() as connection:
            taken[name] = connection.execute(
                text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name"), {"name": name}
            ).scalar_one()
            connection.execute(text(f"ALTER TABLE appointments DROP CONSTRAINT {name}"))

    yield take
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM appointments"))
        for name, wanted in taken.items():
            connection.execute(text(f"ALTER TABLE appointments ADD CONSTRAINT {name} {wanted}"))


@pytest.fixture
def insert(app_engine, clean):
    """Insert an appointment that stands, as it is now by default."""
    with app_engine.database.transaction() as connection:
        connection.execute(text("INSERT INTO customers (name, email, time_zone) VALUES ('n', 'e@example.org', 'UTC')"))

    def make(**values) -> int:
        columns = {"status": "scheduled", "calcom_sync_status": "synced", "calcom_v2_booking_id": None, **values}
        with app_engine.database.transaction() as connection:
            return connection.execute(
                text(
                    f"INSERT INTO appointments (customer_id, event_type_id, starts_at, ends_at, {', '.join(columns)}) "
                    "SELECT id, 1, now(), now() + interval '1 h', "
                    f"{', '.join(f':{name}' for name in columns)} FROM customers RETURNING id"
                ),
                columns,
            ).scalar_one()

    return make


NOW = datetime.now(UTC)
BREAKING = [
    (1, "no_orphaned_booking", {"calcom_v2_booking_id": "uid", "deleted_at": NOW}),
    (2, "no_orphaned_appointment", {}),
    (3, "status", {"calcom_v2_booking_id": "uid", "status": "odd"}),
    (3, "calcom_sync_status", {"calcom_v2_booking_id": "uid", "calcom_sync_status": "odd"}),
]


@pytest.mark.parametrize(("number", "constraint", "values"), BREAKING)
def test_what_breaks_an_invariant_is_refused_and_where_nothing_refuses_it_found(
    app_engine, without, insert, number, constraint, values
):
    def broken() -> list[tuple]:
        with app_engine.database.reading() as connection:
            found = check(connection)
        return [(one.invariant.number, one.rows, one.examples) for one in found if one.rows]

    with pytest.raises(IntegrityError, match=f"ck_appointments_{constraint}"):
        insert(**values)
    assert broken() == []
    without(f"ck_appointments_{constraint}")
    row = insert(**values)
    assert broken() == [(number, 1, (row,))]


def test_invariants_that_hold(app_engine, clean, caplog):
    assert run(app_engine, app_engine.sweeps["invariants"]).found == 0
    assert [line for line in caplog.records if line.levelno == logging.CRITICAL] == []


def test_a_broken_invariant_is_said_once_and_again_when_it_gets_worse(app_engine, db, without, insert, caplog):
    without("ck_appointments_no_orphaned_appointment")
    sweep = app_engine.sweeps["invariants"]
    first = insert()
    with caplog.at_level(logging.CRITICAL, "saga"):
        assert run(app_engine, sweep).found == 1
        assert run(app_engine, sweep).found == 1
        second = insert()
        assert run(app_engine, sweep).found == 2
    said = [line.message for line in caplog.records if getattr(line, "event", "") == "invariant_broken"]
    assert len(said) == 2
    assert f"by 1 appointments: {first};" in said[0]
    assert f"by 2 appointments: {first}, {second};" in said[1]
    assert db.execute(text("SELECT found FROM sweeps WHERE name = 'invariants'")).scalar_one() == 2
