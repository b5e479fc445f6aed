"""The outbox: what becomes of each saga, told to others, at least once and in the order in which it was committed.

While the switch `saga.events` is on, a trigger copies what is written into the history to the table `outbox`, in the
same statement: an event is there if, and only if, what it tells has happened. A sweep sends what it finds there to the
broker, in the order of the numbers, and deletes it when the broker has it. The numbers are drawn under the lock of the
saga's row, so a saga's events are numbered as they were committed, and one sender at a time keeps them so on their way.

The table is the buffer. With the broker away, or a subscriber behind, events wait in it; bookings go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import text

from sagajobs.saga.sweeps.sweep import Sweep, Swept

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

log = logging.getLogger(__name__)

SWITCH = "saga.events"
"""The switch that turns the copying on; off unless somebody turns it, as events that nobody takes fill a table."""

SWEEP = "events"

BATCH = 100
"""Events sent in one transaction: those of a batch that breaks off are sent once more."""

AT_MOST = 5.0
"""Seconds for which one run sends: after an outage, sagas' own messages are not to wait behind events."""

LONGEST_REST = 60.0
"""Seconds until a process tries again, at most, whether the broker takes events: each time twice as long as before."""

_LOCK_CLASS = 4302
"""First half of the advisory lock's key; see `presence.LOCK_CLASS` for the other one."""

ALONE = text("SELECT pg_try_advisory_xact_lock(:lock_class, 0)")
"""Whether this transaction is the only one that sends: two at once would overtake each other."""

FIRST = text("SELECT id, saga_id, saga, event, step, attempt, at, trace FROM outbox ORDER BY id LIMIT :batch")

SENT = text("DELETE FROM outbox WHERE id = ANY (:ids)")

WAITING = text("SELECT count(*) AS events, extract(epoch FROM saga_now() - min(at)) AS oldest FROM outbox")


@dataclass(frozen=True, slots=True)
class Happening:
    """What became of a saga, as others are told.

    Attributes:
        number: rises from event to event; within a saga, in the order in which they came about.
        saga_id, saga: which one, and its kind.
        event: a `Lifecycle`.
        step, attempt: of which step, at which try; None where it is about no step.
        at: when.
        trace: of its start (`watching`), a `traceparent` if OpenTelemetry is in use.
    """

    number: int
    saga_id: str
    saga: str
    event: str
    step: str | None
    attempt: int | None
    at: datetime
    trace: str | None


class Carrier(Protocol):
    """Takes events to the broker."""

    def send(self, happenings: Sequence[Happening]) -> int:
        """Send events in their order; return how many the broker has, fewer than given if it takes no more now."""
        ...


def relaying(carrier: Carrier, *, every: float) -> Sweep:
    """Return the sweep that sends what is in the outbox; while the broker takes none, it rests ever longer between."""
    resting = _Resting(carrier, every)

    def body(engine: Engine, _cursor: Any) -> Swept:
        return Swept(0 if resting.rests() else relay(engine, resting))

    return Sweep(name=SWEEP, body=body, every=every, what="events sent")


class _Resting:
    """A carrier that is not asked each second what it has just refused.

    RabbitMQ, of which one queue refuses an event, has given it to all others, and gives it to them again at each try.
    Each process rests by itself, so that a person who types the sweep has it tried at once.
    """

    def __init__(self, carrier: Carrier, first: float) -> None:
        self._carrier = carrier
        self._first = first
        self._rest = 0.0
        self._until = 0.0

    def rests(self) -> bool:
        """Tell whether it has refused just now."""
        return time.monotonic() < self._until

    def send(self, happenings: Sequence[Happening]) -> int:
        """Send events in their order; see `Carrier`."""
        taken = self._carrier.send(happenings)
        if taken < len(happenings):
            self._rest = min(max(2 * self._rest, self._first), LONGEST_REST)
            self._until = time.monotonic() + self._rest
        if taken:
            self._rest = 0.0
        return taken


def relay(engine: Engine, carrier: Carrier) -> int:
    """Send what is in the outbox until it is empty, the broker takes no more, or the time is over; return how many.

    Raises:
        DBAPIError: the database is away; what was not yet deleted is sent once more.
    """
    sent, until = 0, time.monotonic() + AT_MOST
    while time.monotonic() < until:
        with engine.database.transaction() as connection:
            if not connection.execute(ALONE, {"lock_class": _LOCK_CLASS}).scalar_one():
                return sent
            rows = connection.execute(FIRST, {"batch": BATCH}).all()
            batch = [Happening(row.id, str(row.saga_id), *row[2:]) for row in rows]
            taken = carrier.send(batch) if batch else 0
            if taken:
                connection.execute(SENT, {"ids": [one.number for one in batch[:taken]]})
        sent += taken
        if taken < BATCH:
            break
    return sent


def waiting(engine: Engine) -> tuple[int, float]:
    """Return how many events are in the outbox, and the age of the oldest one in seconds."""
    with engine.database.reading() as connection:
        row = connection.execute(WAITING).one()
    return row.events, float(row.oldest or 0.0)
