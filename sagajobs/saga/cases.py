"""Review cases as the table has them: what no program can settle, why, and what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from sagajobs.errors import CaseClosed, CaseNotFound
from sagajobs.saga.states import SagaState

_NO_BIGINT = 2**63

_CASE = """
    SELECT c.id, c.saga_id, g.name, g.kind, g.state, c.step, c.reason, c.evidence, c.was, c.urgent_at, c.opened_at,
        c.looks, c.alerts, c.closed_at, c.closed_by, c.resolution, c.why,
        extract(epoch FROM coalesce(c.closed_at, saga_now()) - c.opened_at)::float AS age,
        extract(epoch FROM c.urgent_at - saga_now())::float AS urgent_in
    FROM review_cases c JOIN sagas g ON g.id = c.saga_id
"""

_CAUSES = """
    SELECT FROM unnest(ARRAY[c.evidence->'error', c.evidence->'probe']) AS e(error)
    WHERE lower(e.error->>'class') = lower(:cause)
        OR lower(regexp_replace(e.error->>'class', '^.*[.]', '')) = lower(:cause)
        OR strpos(lower(e.error->>'message'), lower(:cause)) > 0
"""

_BEHIND = """
    SELECT coalesce(a.urgent_at, 'infinity'), a.opened_at, a.id FROM review_cases a WHERE a.id = :after
"""

_OPEN = text(f"""
    {_CASE} WHERE c.closed_at IS NULL
        AND (CAST(:name AS text) IS NULL OR g.name = :name)
        AND (CAST(:step AS text) IS NULL OR c.step = :step OR regexp_replace(c.step, '\\[[0-9]+\\]$', '') = :step)
        AND c.opened_at <= saga_now() - make_interval(secs => :older_than)
        AND (CAST(:cause AS text) IS NULL OR EXISTS ({_CAUSES}))
        AND (CAST(:after AS bigint) IS NULL OR (coalesce(c.urgent_at, 'infinity'), c.opened_at, c.id) > ({_BEHIND}))
    ORDER BY c.urgent_at NULLS LAST, c.opened_at, c.id LIMIT :limit
""")
"""What is open, the nearest appointment first; found by a partial index, however many cases there have been. What
narrows it is looked at afterwards, as open cases are few."""

_ONE = text(f"{_CASE} WHERE c.id = :case")

_LAST = text(f"""
    {_CASE} WHERE c.saga_id = CAST(:id AS uuid) ORDER BY c.closed_at IS NOT NULL, c.id DESC LIMIT 1
""")
"""The saga's open case or, if there is none, its last one."""

_HISTORY = text("""
    SELECT at, event, step, attempt, fence, detail FROM saga_events WHERE saga_id = CAST(:id AS uuid) ORDER BY id
""")


@dataclass(frozen=True, slots=True)
class Case:
    """A question to a person.

    Attributes:
        number: the case's own; `saga_id`, `name` and `state` are the saga's.
        step: the step in question, None if it is the saga as a whole.
        reason: why no program can go on; `evidence` what it saw, which may be about a customer.
        was: the saga's state before.
        urgent_at: when the saga loses its use (the appointment begins); `urgent_in` seconds until then.
        age: seconds since it was opened, or for which it was open.
        looks: how often it was re-examined; `alerts`: how often somebody was alerted since it was opened.
        closed_at, closed_by, resolution, why: when, by whom, by which remedy, and for which reason it was settled.
    """

    number: int
    saga_id: str
    name: str
    kind: str
    state: SagaState
    step: str | None
    reason: str
    was: SagaState
    urgent_at: datetime | None
    urgent_in: float | None
    opened_at: datetime
    age: float
    looks: int
    alerts: int
    closed_at: datetime | None = None
    closed_by: str | None = field(default=None, repr=False)
    resolution: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict, repr=False)
    why: str | None = field(default=None, repr=False)

    @property
    def open(self) -> bool:
        """Nobody has settled it."""
        return self.closed_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sieve:
    """Which of the open cases are meant; what is not given narrows nothing.

    Attributes:
        name: those about sagas of this kind.
        step: those about this step; about each of its items, where it is done once for every item.
        cause: those whose error, or whose look that failed, is of this class (whole or its last part, in upper or
            lower case), or says this in its message.
        older_than: those opened so many seconds ago or earlier.
    """

    name: str | None = None
    step: str | None = None
    cause: str | None = None
    older_than: float = 0.0


ALL = Sieve()
"""Lets every open case through."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a saga's history, as in `saga_events`."""

    at: datetime
    event: str
    step: str | None
    attempt: int | None
    fence: int | None
    detail: Mapping[str, Any] | None = field(repr=False)


def open_cases(connection: Connection, limit: int, sieve: Sieve = ALL, *, after: int | None = None) -> list[Case]:
    """Return what waits for a person, the nearest appointment first.

    Args:
        connection: to ask on.
        limit: so many at most.
        sieve: those that are meant.
        after: the number of a case, open or settled by now: those that come behind it.

    Raises:
        CaseNotFound: no case has the number `after`.
    """
    if after is not None:
        case(connection, after)
    asked = {"limit": limit, "after": after, **asdict(sieve)}
    return [_read(row) for row in connection.execute(_OPEN, asked).mappings()]


def case(connection: Connection, number: int) -> Case:
    """Return a case; raises `CaseNotFound`."""
    known = 0 < number < _NO_BIGINT
    row = connection.execute(_ONE, {"case": number}).mappings().first() if known else None
    if row is None:
        raise CaseNotFound(f"there is no review case {number} in this database")
    return _read(row)


def last_case(connection: Connection, saga_id: str) -> Case:
    """Return a saga's open case or, if there is none, its last one; raises `CaseNotFound`."""
    row = connection.execute(_LAST, {"id": saga_id}).mappings().first()
    if row is None:
        raise CaseNotFound(f"nobody was ever asked about saga {saga_id}: it has no review case")
    return _read(row)


def history(connection: Connection, saga_id: str) -> list[Happening]:
    """Return what happened to a saga, the oldest first."""
    return [Happening(**row) for row in connection.execute(_HISTORY, {"id": saga_id}).mappings()]


def check_open(found: Case) -> None:
    """Raise `CaseClosed`, saying who has settled it and how, unless a case is open."""
    if found.closed_at is not None:
        at = found.closed_at.isoformat(sep=" ", timespec="seconds")
        raise CaseClosed(f"case {found.number} was settled by {found.closed_by} at {at}: {found.resolution}")


def _read(row: RowMapping) -> Case:
    return Case(
        number=row["id"],
        saga_id=str(row["saga_id"]),
        name=row["name"],
        kind=row["kind"],
        state=SagaState(row["state"]),
        step=row["step"],
        reason=row["reason"],
        was=SagaState(row["was"]),
        urgent_at=row["urgent_at"],
        urgent_in=row["urgent_in"],
        opened_at=row["opened_at"],
        age=row["age"],
        looks=row["looks"],
        alerts=row["alerts"],
        closed_at=row["closed_at"],
        closed_by=row["closed_by"],
        resolution=row["resolution"],
        evidence=row["evidence"],
        why=row["why"],
    )
