"""Statements that are planned once a connection."""

from __future__ import annotations

from sqlalchemy import text

from sagajobs.saga.prepared import Prepared
from tests.support.sagas import Scripted, record

ADD = Prepared("add", "SELECT :one + :other + :one AS sum", one="int", other="int")
ASKED = text("SELECT count(*) FROM pg_prepared_statements WHERE name = 'sagajobs_add'")


def test_a_parameter_that_is_named_twice_is_given_once(app_engine):
    with app_engine.database.transaction() as connection:
        assert ADD.execute(connection, {"one": 20, "other": 2}).scalar_one() == 42


def test_each_connection_prepares_it_for_itself_and_keeps_it_beyond_a_rollback(app_engine):
    with app_engine.database.engine.connect() as one, app_engine.database.engine.connect() as other:
        assert ADD.execute(one, {"one": 1, "other": 1}).scalar_one() == 3
        one.rollback()
        assert one.execute(ASKED).scalar_one() == 1
        assert ADD.execute(one, {"one": 1, "other": 2}).scalar_one() == 4
        assert ADD.execute(other, {"one": 2, "other": 2}).scalar_one() == 6


def test_a_connection_that_was_lost_leaves_nothing_behind(app_engine):
    """The pool gives the same place to a new connection, which has prepared nothing."""
    with app_engine.database.engine.connect() as connection:
        ADD.execute(connection, {"one": 1, "other": 1})
        connection.invalidate()
        connection.rollback()
        assert ADD.execute(connection, {"one": 1, "other": 1}).scalar_one() == 3


def test_a_table_that_has_got_a_column_is_no_trouble(app_engine, world):
    """A migration runs while workers are at work: the server plans anew what it had planned."""
    handle = record(Scripted, {})
    app_engine.executor.forward(Scripted, Scripted.definition.steps[0], handle.id)
    try:
        with app_engine.database.transaction() as connection:
            connection.execute(text("ALTER TABLE saga_steps ADD COLUMN later int"))
        app_engine.drive(Scripted, handle.id)
    finally:
        with app_engine.database.transaction() as connection:
            connection.execute(text("ALTER TABLE saga_steps DROP COLUMN later"))
    assert handle.status() == "completed"
