"""A sweep: a bounded piece of housekeeping that beat has done again and again, by whichever worker is free.

A sweep may run twice at once, late, or not for an hour: each takes its rows one by one, by compare and set, every one
in a transaction of its own, so that a second sweep finds nothing left and one bad row stops no other. Each run is noted
in the table `sweeps`, so that one which no longer comes about can be seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sagajobs.saga.sweeps import statements

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

LONGEST = 300.0
"""Seconds after which the worker ends a sweep by force; the next one begins where the rows then stand."""

TASK_PREFIX = "saga."


@dataclass(frozen=True, slots=True)
class Swept:
    """What one run came to.

    Attributes:
        found: how many rows it did something about.
        cursor: where the next run goes on (JSON); None keeps what was there.
    """

    found: int
    cursor: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A kind of sweep.

    Attributes:
        name: its row in `sweeps`, its task's name behind `saga.`, and what an operator calls it by.
        body: takes the engine and the cursor that the last run left, None before the first.
        every: seconds between two runs.
        what: what `found` counts, for a person: a noun in the plural and what was done about it.
        publishes: it sends hints, and needs a broker.
    """

    name: str
    body: Callable[[Engine, Any], Swept]
    every: float
    what: str
    publishes: bool = False

    @property
    def task(self) -> str:
        """Name of its Celery task."""
        return TASK_PREFIX + self.name

    @property
    def expires(self) -> float:
        """Seconds after which a message for it is dropped: a backlog of sweeps is worth no more than one."""
        return min(max(self.every * 5, 10.0), LONGEST)


@dataclass(frozen=True, slots=True)
class Noted:
    """One run as it is on record: how much it found, and how many seconds it took.

    Attributes:
        first: the first one of its minute, of all workers'.
    """

    found: int
    seconds: float
    first: bool = True


def run(engine: Engine, sweep: Sweep) -> Noted:
    """Run a sweep once, here and now, and note it.

    Raises:
        DBAPIError: the database is away; whatever was done until then stands.
    """
    began = time.monotonic()
    with engine.database.reading() as connection:
        last = connection.execute(statements.LAST_RUN, {"name": sweep.name}).first()
    swept = sweep.body(engine, last.cursor if last else None)
    noted = Noted(swept.found, time.monotonic() - began, first=last is None or not last.this_minute)
    with engine.database.transaction() as connection:
        connection.execute(
            statements.NOTE,
            {
                "name": sweep.name,
                "cursor": statements.as_json(swept.cursor),
                "seconds": noted.seconds,
                "found": noted.found,
            },
        )
    engine.watchers.swept(sweep, noted)
    return noted
