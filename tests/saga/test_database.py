"""Connections to PostgreSQL: what one read costs, and a server that goes away around it."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from sagajobs.saga import Database
from sagajobs.testing.waiting import wait_for

OWN = text("SELECT pg_backend_pid()")
GONE = text("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = :pid)")


@pytest.fixture
def database(app_engine):
    """The tests' database through one connection, which has been read on before."""
    one = Database(lambda: app_engine.database.engine.url.render_as_string(hide_password=False), pool_size=1)
    assert _read(one) == _read(one)
    yield one
    one.close()


def _read(database) -> int:
    with database.reading() as connection:
        return connection.execute(OWN).scalar_one()


def _end(db, pid: int) -> None:
    """End the server's side of a connection, as a server that is restarted does."""
    db.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    wait_for(lambda: db.execute(GONE, {"pid": pid}).scalar_one())


def test_what_was_read_is_in_hand_though_the_server_goes_away_then(database, db):
    with database.reading() as connection:
        pid = connection.execute(OWN).scalar_one()
        _end(db, pid)
    with pytest.raises(DBAPIError) as caught:
        _read(database)
    assert caught.value.connection_invalidated
    assert _read(database) != pid


def test_a_server_that_goes_away_during_a_read_is_a_failure_of_the_database(database, db):
    with database.reading() as connection:
        _end(db, connection.execute(OWN).scalar_one())
        with pytest.raises(DBAPIError):
            connection.execute(OWN)
    assert _read(database)


def test_a_read_sends_its_statement_and_nothing_else(database, db):
    last = text("SELECT state, query FROM pg_stat_activity WHERE pid = :pid")
    assert tuple(db.execute(last, {"pid": _read(database)}).one()) == ("idle", str(OWN))


def test_each_read_is_by_itself_and_writes_are_in_one_transaction_as_before(database):
    def own() -> list[int]:
        return [connection.execute(text("SELECT txid_current()")).scalar_one() for _ in range(2)]

    with database.reading() as connection:
        first, second = own()
        assert first != second
    with database.transaction() as connection:
        first, second = own()
        assert first == second
