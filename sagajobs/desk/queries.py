"""What surfaces ask the database about sagas: read-only, every value bound."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, case, func, select, text, tuple_

from sagajobs.errors import InvalidInput, SagaNotFound
from sagajobs.saga.schema import review_cases, saga_steps, sagas
from sagajobs.saga.states import ENDED, SagaState

PREFIX_LENGTH = 8
"""Characters of an id that are enough to name a saga, if no other one begins like it."""

AFTERGLOW = 15.0
"""Seconds for which a saga that has come to rest is still shown among those at work: how it ended wants to be seen."""

_AGE = func.extract("epoch", func.saga_now() - sagas.c.created_at)

_SHOWN_STEP = (
    select(saga_steps.c.name)
    .where(saga_steps.c.saga_id == sagas.c.id, saga_steps.c.stage >= sagas.c.stage)
    .order_by(saga_steps.c.stage, saga_steps.c.position)
    .limit(1)
    .scalar_subquery()
)
"""The step in work, or the next one that will be."""

_ASKED_STEP = (
    select(review_cases.c.step)
    .where(review_cases.c.saga_id == sagas.c.id)
    .order_by(review_cases.c.closed_at.is_not(None), review_cases.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
"""The step that a person is, or was last, asked about."""

_ATTEMPTS = (
    select(func.max(saga_steps.c.attempts)).where(saga_steps.c.saga_id == sagas.c.id).correlate(sagas).scalar_subquery()
)

_LISTED: Select[Any] = select(
    sagas.c.id,
    sagas.c.name,
    sagas.c.state,
    sagas.c.created_at,
    sagas.c.ended_at,
    _AGE.label("age_seconds"),
    sagas.c.error["step"].astext.label("failed_step"),
    _SHOWN_STEP.label("step"),
    case((sagas.c.state == SagaState.MANUAL_REVIEW_REQUIRED, _ASKED_STEP)).label("asked_step"),
    _ATTEMPTS.label("attempts"),
)

NEWEST_FIRST = (sagas.c.created_at.desc(), sagas.c.id.desc())
"""The order of lists; `narrowed` goes on in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSaga:
    """A saga in a list.

    Attributes:
        step: the one that a person is asked about, the one that failed, or the one in work; None for a saga that went
            well.
        ended_at: when it ended; one in manual review that has ended was abandoned.
        attempts: the most that any of its steps took.
    """

    id: str
    name: str
    state: SagaState
    step: str | None
    created_at: datetime
    ended_at: datetime | None
    age_seconds: float
    attempts: int

    @property
    def abandoned(self) -> bool:
        """Somebody has left it as it was: it is in nobody's queue any more."""
        return self.state is SagaState.MANUAL_REVIEW_REQUIRED and self.ended_at is not None


def saga_list(
    connection: Connection,
    *,
    state: SagaState | None,
    name: str | None,
    before: str | None,
    limit: int,
    older_than: float = 0.0,
) -> list[ListedSaga]:
    """Return sagas, the newest first.

    Args:
        connection: to read on.
        state: only those in this state.
        name: only those of this kind.
        before: only those that were started before the saga with this id, for paging.
        limit: so many at most.
        older_than: only those that were started so many seconds ago or earlier.
    """
    query = _LISTED
    if state is not None:
        query = query.where(sagas.c.state == state)
    query = narrowed(query, name=name, older_than=older_than, last=last_seen(connection, before))
    return _listed(connection, query.order_by(*NEWEST_FIRST).limit(limit))


def sagas_listed(connection: Connection, ids: Sequence[str]) -> list[ListedSaga]:
    """Return those of some sagas that exist, the newest first."""
    return _listed(connection, _LISTED.where(sagas.c.id.in_(ids)).order_by(*NEWEST_FIRST))


_AT_WORK = text("""
    WITH unfinished AS MATERIALIZED (SELECT id, created_at FROM sagas WHERE next_at IS NOT NULL),
    resting AS MATERIALIZED (
        SELECT id, created_at FROM sagas WHERE ended_at > saga_now() - make_interval(secs => :afterglow)
        UNION ALL
        SELECT id, created_at FROM sagas
        WHERE state IN ('manual_review_required', 'paused') AND state <> 'completed'
            AND ended_at IS NULL AND updated_at > saga_now() - make_interval(secs => :afterglow)
    )
    SELECT id FROM (SELECT * FROM unfinished UNION ALL SELECT * FROM resting) g
    ORDER BY created_at DESC, id DESC LIMIT :most
""").columns(sagas.c.id)
"""Materialized, as the database would else walk all sagas from the newest on, in the hope of meeting one."""


def at_work(connection: Connection, *, limit: int) -> list[ListedSaga]:
    """Return the sagas that are unfinished or came to rest within `AFTERGLOW`, the newest first, so many at most."""
    ids = select(_AT_WORK.bindparams(afterglow=AFTERGLOW, most=limit).cte("at_work").c.id)
    return _listed(connection, _LISTED.where(sagas.c.id.in_(ids)).order_by(*NEWEST_FIRST))


def last_seen(connection: Connection, saga_id: str | None) -> Sequence[Any] | None:
    """Return the place in the list of the saga behind which a page begins; None if it is the first page.

    Raises:
        SagaNotFound: it was purged meanwhile.
    """
    if saga_id is None:
        return None
    place = connection.execute(select(sagas.c.created_at, sagas.c.id).where(sagas.c.id == saga_id)).one_or_none()
    if place is None:
        raise SagaNotFound(f"there is no saga {saga_id} in this database")
    return tuple(place)


def narrowed(query: Select[Any], *, name: str | None, older_than: float, last: Sequence[Any] | None) -> Select[Any]:
    """Return a query of sagas with what `saga_list` narrows it to, its state apart."""
    if name is not None:
        query = query.where(sagas.c.name == name)
    if older_than > 0:
        query = query.where(sagas.c.created_at <= func.saga_now() - timedelta(seconds=older_than))
    if last is not None:
        # By key, not by offset: the cost of a page does not grow with its number.
        query = query.where(tuple_(sagas.c.created_at, sagas.c.id) < tuple_(*last))
    return query


def _listed(connection: Connection, query: Select[Any]) -> list[ListedSaga]:
    return [
        ListedSaga(
            id=str(row.id),
            name=row.name,
            state=SagaState(row.state),
            step=row.asked_step or row.failed_step or (None if row.state in ENDED else row.step),
            created_at=row.created_at,
            ended_at=row.ended_at,
            age_seconds=float(row.age_seconds),
            attempts=row.attempts,
        )
        for row in connection.execute(query)
    ]


def full_id(connection: Connection, given: str) -> str:
    """Return the id of the saga that `given`, an id or its beginning, names.

    Raises:
        InvalidInput: it is neither, or the beginning of several.
        SagaNotFound: no saga has it.
    """
    if _range(given) is None:
        raise InvalidInput(f"{given!r} is no id of a saga; give the id or its first {PREFIX_LENGTH} characters or more")
    found = ids_from(connection, given, 2)
    if not found:
        raise SagaNotFound(f"there is no saga {given} in this database")
    if len(found) > 1:
        raise InvalidInput(f"several sagas have an id that begins with {given}; give more of it")
    return found[0]


def ids_from(connection: Connection, given: str, limit: int) -> list[str]:
    """Return the ids that begin with `given`, so many at most; none if it is no beginning of an id."""
    ids = _range(given)
    if ids is None:
        return []
    return [str(found) for found in connection.scalars(select(sagas.c.id).where(sagas.c.id.between(*ids)).limit(limit))]


def _range(given: str) -> tuple[str, str] | None:
    """Return the first and the last id with a beginning, None if it is none; a range is served by an index."""
    digits = given.strip().replace("-", "").lower()
    if not PREFIX_LENGTH <= len(digits) <= 32 or not set(digits) <= set("0123456789abcdef"):  # noqa: PLR2004 - a UUID
        return None
    return str(uuid.UUID(digits.ljust(32, "0"))), str(uuid.UUID(digits.ljust(32, "f")))


_SAGA = text("""
    SELECT id, name, version, kind, state, paused_from, input, idempotency_key, error, hints,
        created_at, ended_at, useful_until, next_at, saga_now() AS now,
        extract(epoch FROM coalesce(ended_at, saga_now()) - created_at)::float AS seconds
    FROM sagas WHERE id = CAST(:id AS uuid)
""")

_STEPS = text("""
    SELECT name, position, external, state, attempts, undo_attempts, probes, owner, output, error, receipt,
        started_at, finished_at,
        extract(epoch FROM nullif(finished_at - started_at, interval '0'))::float AS seconds,
        extract(epoch FROM due_at - saga_now())::float AS due_in,
        extract(epoch FROM lease_until - saga_now())::float AS leased_for
    FROM saga_steps WHERE saga_id = CAST(:id AS uuid) ORDER BY position
""")
"""A local step is begun and done in one statement, so it is not known how long it took."""

_EVENTS = text("""
    SELECT e.at, extract(epoch FROM e.at - g.created_at)::float AS after, e.event, e.step, e.attempt, e.fence, e.detail
    FROM saga_events e JOIN sagas g ON g.id = e.saga_id
    WHERE e.saga_id = CAST(:id AS uuid) ORDER BY e.id
""")

_REVIEWS = text("""
    SELECT id, step, reason, evidence, urgent_at, opened_at, closed_at, closed_by, resolution, why
    FROM review_cases WHERE saga_id = CAST(:id AS uuid) ORDER BY id
""")


def saga(connection: Connection, saga_id: str) -> RowMapping:
    """Return a saga; raises `SagaNotFound` if it was purged meanwhile."""
    found = connection.execute(_SAGA, {"id": saga_id}).mappings().one_or_none()
    if found is None:
        raise SagaNotFound(f"there is no saga {saga_id} in this database (any more)")
    return found


def steps(connection: Connection, saga_id: str) -> Sequence[RowMapping]:
    """Return the steps of a saga, in their order."""
    return connection.execute(_STEPS, {"id": saga_id}).mappings().all()


def events(connection: Connection, saga_id: str) -> Sequence[RowMapping]:
    """Return the history of a saga, the oldest event first."""
    return connection.execute(_EVENTS, {"id": saga_id}).mappings().all()


def reviews(connection: Connection, saga_id: str) -> Sequence[RowMapping]:
    """Return the questions to a person that a saga has raised, the oldest first."""
    return connection.execute(_REVIEWS, {"id": saga_id}).mappings().all()
