"""The purge: sagas that ended longer ago than they are kept for are deleted, with their steps and their history.

What they were about stays, as it is not the engine's, and so does the audit log, which tells who did what to them. A
saga with an open review case stays as well, however old it is. What goes has been added up before (`totals`), so that
no counter of sagas falls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sagajobs.saga.audit import put_on_record
from sagajobs.saga.operator import signed
from sagajobs.saga.sweeps import statements
from sagajobs.saga.sweeps.sweep import Swept
from sagajobs.saga.totals import add_up

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

BATCH = 500
"""Sagas deleted in one transaction: each has some twenty rows, and a row stays locked for a fraction of a second."""

BUDGET = 60.0
"""Seconds after which one sweep leaves the rest to the next."""


def purging(retention_days: int) -> Callable[[Engine, Any], Swept]:
    """Return the body of the sweep that keeps ended sagas for so many days, 0 for ever."""

    def body(engine: Engine, _cursor: Any) -> Swept:
        if retention_days == 0:
            return Swept(0)
        return Swept(sum(purge(engine, older_than_days=retention_days, budget=BUDGET).values()))

    return body


def purge(
    engine: Engine,
    *,
    older_than_days: int,
    batch: int = BATCH,
    budget: float | None = None,
    told: Callable[[int], None] | None = None,
) -> dict[tuple[str, str], int]:
    """Delete the sagas that ended longer ago, batch by batch.

    Args:
        engine: whose sagas.
        older_than_days: days since the end.
        batch: sagas in one transaction.
        budget: seconds after which the rest is left for later, None for no such end.
        told: how many each batch has deleted.

    Returns:
        How many were deleted, by kind and state.
    """
    began = time.monotonic()
    add_up(engine.database, budget=budget)
    total: dict[tuple[str, str], int] = {}
    while True:
        with engine.database.transaction() as connection:
            gone = connection.execute(statements.PURGE, {"days": older_than_days, "batch": batch}).all()
        for row in gone:
            total[_split(row.what)] = total.get(_split(row.what), 0) + row.n
        if told is not None:
            told(sum(row.n for row in gone))
        if sum(row.n for row in gone) < batch or (budget is not None and time.monotonic() - began > budget):
            return total


def purge_by_hand(
    engine: Engine, *, older_than_days: int, who: str, why: str, told: Callable[[int], None] | None = None
) -> dict[tuple[str, str], int]:
    """Delete as `purge` does, all of it, because a person asks for it.

    On record goes, before anything is deleted, what was found then: one that breaks off has deleted some of it.

    Args:
        engine: whose sagas.
        older_than_days: days since the end.
        who: asks for it.
        why: for those who wonder later.
        told: how many each batch has deleted.

    Raises:
        InvalidInput: it is not said who or why, or cannot be stored.
    """
    by = signed(who, why)
    found = sum(purgeable(engine, older_than_days=older_than_days).values())
    with engine.database.transaction() as connection:
        put_on_record(connection, by, "sagas.purged", entity="saga", older_than_days=older_than_days, sagas=found)
    return purge(engine, older_than_days=older_than_days, told=told)


def purgeable(engine: Engine, *, older_than_days: int) -> dict[tuple[str, str], int]:
    """Return how many sagas `purge` would delete, by kind and state."""
    with engine.database.reading() as connection:
        return {_split(row.what): row.n for row in connection.execute(statements.PURGEABLE, {"days": older_than_days})}


def _split(what: str) -> tuple[str, str]:
    name, _, state = what.rpartition("/")  # a state has no slash, an orchestrated saga's name may
    return name, state
