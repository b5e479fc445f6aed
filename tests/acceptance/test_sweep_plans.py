"""What the sweeps cost follows what is due, and not the table (SPEC 8): the plans, on a table that is mostly over.

`make bench` measures it at a million.
"""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tests.support.fixtures import TABLES
from tests.support.plans import DUE, FINISHED, GROWING, explain, fill, queries

DUE_NOW = 20


@pytest.fixture(scope="module")
def filled(app_engine):
    """Twenty thousand sagas that are over, and twenty of everything that is due."""
    with app_engine.database.transaction() as connection:
        connection.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE"))
        fill(connection, *DUE, n=DUE_NOW)
        fill(connection, *FINISHED, n=20_000)
    with app_engine.database.engine.connect() as connection:
        yield connection
        connection.rollback()
    with app_engine.database.transaction() as connection:
        connection.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE"))


@pytest.mark.parametrize("query", queries(DUE_NOW), ids=lambda query: query.name)
def test_what_is_due_is_found_by_an_index(filled, query):
    plan = explain(filled, query)
    assert query.indexes & plan.indexes()
    assert plan.sequential() & GROWING == set()


def test_each_query_finds_all_that_is_due_and_nothing_else(filled):
    for query in queries(10 * DUE_NOW):
        with filled.begin() as transaction:
            result = filled.execute(query.statement, query.values)
            rows = sum(row.n for row in result) if "purge" in query.name else result.rowcount
            transaction.rollback()
        assert rows == _found(query.name), query.name


def _found(query: str) -> int:
    if "in flight" in query:
        return 2 * DUE_NOW  # those that are to be taken up, and those that wait for a person
    return 1 if ": one " in query and "purge" not in query else DUE_NOW
