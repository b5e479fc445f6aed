"""How the whole stands: what is unfinished, who is waited for, what runs late. What is over costs nothing here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from sagajobs.booking.facade import SAGA_ENABLED
from sagajobs.booking.findings import count_findings
from sagajobs.booking.invariants import INVARIANTS, Invariant
from sagajobs.calcom.circuit import Circuit, CircuitSnapshot
from sagajobs.calcom.quota import Quota, QuotaSnapshot
from sagajobs.saga import Engine, SagaState

OVERDUE = 60.0
"""Seconds after its time from which a saga counts as overdue: somebody should have taken it up since."""

_MISSED = 3
"""Times in a row that a sweep has not come when it is late."""

_LEAST = 60.0
"""Seconds for which no sweep is late: one that comes each second may wait behind work."""

_COUNTS = text("""
    SELECT state, count(*) AS sagas FROM sagas
    WHERE state IN ('pending', 'running', 'partial', 'compensating', 'paused', 'manual_review_required')
        AND state <> 'completed' AND ended_at IS NULL
    GROUP BY state
""")
"""No state on the list is `completed`; said once more, it lets the database use the index of the others."""

_BACKLOG = text("""
    SELECT count(*) AS unfinished,
        count(*) FILTER (WHERE next_at <= saga_now()) AS due,
        count(*) FILTER (WHERE next_at <= saga_now() - make_interval(secs => :overdue)) AS overdue
    FROM sagas WHERE next_at IS NOT NULL
""")

_OLDEST = text("""
    WITH unfinished AS MATERIALIZED (SELECT id, name, state, created_at FROM sagas WHERE next_at IS NOT NULL)
    SELECT id, name, state, extract(epoch FROM saga_now() - created_at)::float AS age
    FROM unfinished ORDER BY created_at LIMIT 1
""")
"""Materialized, as the database would else walk all sagas from the oldest on until it meets an unfinished one."""

_CALLS = text("""
    SELECT count(*) FROM sagas g JOIN saga_steps s ON s.saga_id = g.id
    WHERE g.next_at IS NOT NULL AND s.external AND (
        g.state <> 'compensating' AND s.state IN ('waiting', 'running', 'unknown')
        OR g.state = 'compensating' AND s.state IN ('done', 'running', 'unknown', 'undoing'))
""")
"""Steps outside that are still to be done, or to be undone: each is a call at least."""

_CASES = text("""
    SELECT count(*) AS open, count(*) FILTER (WHERE urgent_at <= saga_now()) AS too_late
    FROM review_cases WHERE closed_at IS NULL
""")

_OFF = text("""
    SELECT extract(epoch FROM saga_now() - set_at)::float FROM switches WHERE name = :name AND NOT value
""")

_SWEEPS = text("""
    SELECT name, ran_at, seconds, found, cursor, extract(epoch FROM saga_now() - ran_at)::float AS age FROM sweeps
""")


@dataclass(frozen=True, slots=True)
class Oldest:
    """The unfinished saga that was started first; `age` in seconds."""

    id: str
    name: str
    state: SagaState
    age: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is unfinished, and what waits for a person.

    Attributes:
        unfinished: sagas that the sweep looks after; `due` of them should be taken up, `overdue` since a minute.
        oldest: unfinished, None if nothing is.
        cases: that wait for a person; for `too_late` of them the appointment has begun.
    """

    unfinished: int
    due: int
    overdue: int
    oldest: Oldest | None
    cases: int
    too_late: int


@dataclass(frozen=True, slots=True)
class SweepHealth:
    """A scheduled sweep.

    Attributes:
        name: its name; `what` its finds are.
        every: seconds between two runs, as it should be.
        ran_at: when it last ended, None if it never ran; `age` seconds since.
        seconds, found: what that run took and found.
        late: it should have come again.
    """

    name: str
    what: str
    every: float
    ran_at: datetime | None
    age: float | None
    seconds: float | None
    found: int
    late: bool


@dataclass(frozen=True, slots=True)
class InvariantHealth:
    """An invariant as the sweep last found it: `rows` that break it, some of them; None if nobody has looked yet."""

    invariant: Invariant
    rows: int | None
    examples: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """How the whole stands.

    Attributes:
        counts: sagas that have not ended, by state.
        backlog: what of them is unfinished, and what waits for a person.
        invariants: as the sweep last found them.
        sweeps: the scheduled sweeps.
        circuit: None if it is not known, as Redis is away, or if `circuit_kept` says that there is none.
        quota: likewise.
        calls: to Cal.com that the unfinished sagas still need, at least.
        drained_in: seconds until the quota has let that many through, None if it is not known.
        direct_for: seconds since an operator has turned sagas off, None if they are on.
        findings: what reconciling has left to a person: how many, by what they are.
    """

    counts: Mapping[SagaState, int]
    backlog: Backlog
    invariants: tuple[InvariantHealth, ...]
    sweeps: tuple[SweepHealth, ...]
    circuit: CircuitSnapshot | None
    circuit_kept: bool
    quota: QuotaSnapshot | None
    quota_kept: bool
    calls: int
    drained_in: float | None
    direct_for: float | None
    findings: Mapping[str, int]

    @property
    def out_of_step(self) -> bool:
        """Whether reconciling has left something to a person."""
        return any(self.findings.values())

    @property
    def circuit_silent(self) -> bool:
        """Whether there is a circuit breaker, and Redis does not tell how it stands."""
        return self.circuit_kept and self.circuit is None

    @property
    def quota_silent(self) -> bool:
        """Whether there is a quota, and Redis does not tell what is left of it."""
        return self.quota_kept and self.quota is None


def health(connection: Connection, engine: Engine, *, circuit: Circuit | None, quota: Quota | None) -> Health:
    """Return how the whole stands.

    Args:
        connection: to read on.
        engine: knows the sweeps.
        circuit: the circuit breaker of calls to Cal.com, if there is one.
        quota: their quota, if one is kept.
    """
    calls = connection.execute(_CALLS).scalar_one()
    left = quota.snapshot() if quota is not None else None
    noted = _noted(connection)
    return Health(
        counts={SagaState(row.state): row.sagas for row in connection.execute(_COUNTS)},
        backlog=backlog(connection),
        invariants=_invariants(noted.get("invariants")),
        sweeps=_sweeps(engine, noted),
        circuit=circuit.snapshot() if circuit is not None else None,
        circuit_kept=circuit is not None,
        quota=left,
        quota_kept=quota is not None,
        calls=calls,
        drained_in=None if left is None else drain(calls, left),
        direct_for=connection.execute(_OFF, {"name": SAGA_ENABLED}).scalar(),
        findings=count_findings(connection),
    )


def backlog(connection: Connection) -> Backlog:
    """Return what is unfinished and what waits for a person."""
    unfinished = connection.execute(_BACKLOG, {"overdue": OVERDUE}).one()
    cases = connection.execute(_CASES).one()
    return Backlog(
        unfinished=unfinished.unfinished,
        due=unfinished.due,
        overdue=unfinished.overdue,
        oldest=_oldest(connection),
        cases=cases.open,
        too_late=cases.too_late,
    )


def sweeps(connection: Connection, engine: Engine) -> tuple[SweepHealth, ...]:
    """Return how the scheduled sweeps stand, which is one short query."""
    return _sweeps(engine, _noted(connection))


def drain(calls: int, quota: QuotaSnapshot) -> float:
    """Return the seconds until the quota has let so many calls through, each at its first attempt."""
    beyond = max(calls - max(quota.per_minute - quota.used, 0), 0)
    return quota.blocked_for + beyond * quota.window / quota.per_minute


def late(every: float, age: float | None) -> bool:
    """Return whether a sweep should have come again.

    Args:
        every: seconds between two runs.
        age: seconds since the last one, None if there was none.
    """
    return age is None or age > max(_MISSED * every, _LEAST)


def _noted(connection: Connection) -> dict[str, Row[Any]]:
    return {row.name: row for row in connection.execute(_SWEEPS)}


def _oldest(connection: Connection) -> Oldest | None:
    row = connection.execute(_OLDEST).first()
    return None if row is None else Oldest(str(row.id), row.name, SagaState(row.state), row.age)


def _sweeps(engine: Engine, noted: Mapping[str, Row[Any]]) -> tuple[SweepHealth, ...]:
    found = []
    for sweep in engine.sweeps.values():
        row = noted.get(sweep.name)
        age = None if row is None or row.age is None else row.age
        found.append(
            SweepHealth(
                name=sweep.name,
                what=sweep.what,
                every=sweep.every,
                ran_at=row.ran_at if row else None,
                age=age,
                seconds=row.seconds if row else None,
                found=row.found if row else 0,
                late=late(sweep.every, age),
            )
        )
    return tuple(found)


def _invariants(row: Row[Any] | None) -> tuple[InvariantHealth, ...]:
    # Not looked at anew: that reads every appointment, and the sweep did so minutes ago.
    if row is None or row.ran_at is None:
        return tuple(InvariantHealth(invariant, None) for invariant in INVARIANTS)
    broken = row.cursor or {}
    states = ((invariant, broken.get(str(invariant.number), [0])) for invariant in INVARIANTS)
    return tuple(InvariantHealth(invariant, seen[0], tuple(seen[1:])) for invariant, seen in states)
