"""What happens to sagas while somebody looks: their history as it grows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from sagajobs.errors import SagaNotFound
from sagajobs.saga.database import IDLE_IN_TRANSACTION
from sagajobs.saga.states import SagaState

_MOST = 1000
"""Events that one look brings; the next one goes on behind them."""

_MOST_MISSING = 10_000
"""Numbers that are looked for again: each is a look into an index."""

_LAST = text("SELECT coalesce(max(id), 0) FROM saga_events")

_SINCE = text("""
    WITH e AS (
        (SELECT * FROM saga_events WHERE id > :last ORDER BY id LIMIT :most)
        UNION ALL
        SELECT * FROM saga_events WHERE id = ANY(:missing)
    )
    SELECT e.id, e.saga_id, g.name, g.state, e.at, e.event, e.step, e.attempt
    FROM e JOIN sagas g ON g.id = e.saga_id ORDER BY e.id
""")

_OF_ONE = text("""
    SELECT e.id, e.saga_id, g.name, g.state, e.at, e.event, e.step, e.attempt
    FROM saga_events e JOIN sagas g ON g.id = e.saga_id WHERE e.saga_id = CAST(:id AS uuid) ORDER BY e.id
""")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a saga; `state` is the saga's at the time of the look."""

    saga: str
    name: str
    state: SagaState
    at: datetime
    event: str
    step: str | None
    attempt: int | None


class AllEvents:
    """What happens to all sagas from now on; each look is one query, found by index.

    Numbers of events are given before the commit, so a later one may be seen first. A number that was passed over is
    looked for again, until a transaction that could still bring it would have been ended.
    """

    def __init__(self, connection: Connection) -> None:
        self._last: int = connection.execute(_LAST).scalar_one()
        self._missing: dict[int, float] = {}

    def look(self, connection: Connection) -> list[Event]:
        """Return what has happened since the last look, in the order of its numbers."""
        asked = {"last": self._last, "missing": list(self._missing), "most": _MOST}
        rows = connection.execute(_SINCE, asked).all()
        seen = {row.id for row in rows}
        now = time.monotonic()
        newest = max((self._last, *seen))
        passed_over = [number for number in range(self._last + 1, newest) if number not in seen]
        waited_for = {
            number: since
            for number, since in self._missing.items()
            if number not in seen and now - since < IDLE_IN_TRANSACTION
        }
        self._missing = waited_for | dict.fromkeys(passed_over[-_MOST_MISSING:], now)
        self._last = newest
        return [_event(row) for row in rows]


class EventsOfOne:
    """What happened and happens to one saga; each look is one query, found by index."""

    def __init__(self, saga_id: str) -> None:
        self._id = saga_id
        self._seen: set[int] = set()

    def look(self, connection: Connection) -> list[Event]:
        """Return what has happened since the last look; at the first, all that is on record.

        Raises:
            SagaNotFound: it was purged meanwhile.
        """
        found = connection.execute(_OF_ONE, {"id": self._id}).all()
        if not found:
            raise SagaNotFound(f"there is no saga {self._id} in this database (any more)")
        rows = [row for row in found if row.id not in self._seen]
        self._seen |= {row.id for row in rows}
        return [_event(row) for row in rows]


def _event(row: Row[Any]) -> Event:
    return Event(str(row.saga_id), row.name, SagaState(row.state), row.at, row.event, row.step, row.attempt)
