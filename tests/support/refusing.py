"""Faults of the database, made by the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text


@contextmanager
def refusing(engine, table: str, when: str = "INSERT OR UPDATE") -> Iterator[None]:
    """While open, some writes to a table fail as they would with a full disk."""
    refuse(engine, table, when)
    try:
        yield
    finally:
        accept(engine, table)


def refuse(engine, table: str, when: str) -> None:
    with engine.database.transaction() as connection:
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION test_full() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'disk full' USING ERRCODE = 'data_exception'; END $$"
            )
        )
        connection.execute(
            text(f"CREATE TRIGGER test_full BEFORE {when} ON {table} FOR EACH ROW EXECUTE FUNCTION test_full()")
        )


def accept(engine, table: str) -> None:
    with engine.database.transaction() as connection:
        connection.execute(text(f"DROP TRIGGER IF EXISTS test_full ON {table}"))
