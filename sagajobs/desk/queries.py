"""What the command line asks the database: read-only, every value bound."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, RowMapping, case, func, select, text, tuple_

from sagajobs.errors import InvalidInput, SagaNotFound
from sagajobs.saga.schema import review_cases, saga_steps, sagas
from sagajobs.saga.states import ENDED, SagaState

PREFIX_LENGTH = 8
"""Characters of an id that are enough to name a saga, if no other one begins like it."""

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
    connection: Connection, *, state: SagaState | None, name: str | None, before: str | None, limit: int
) -> list[ListedSaga]:
    """Return sagas, the newest first.

    Args:
        connection: to read on.
        state: only those in this state.
        name: only those of this kind.
        before: only those that were started before the saga with this id, for paging.
        limit: so many at most.
    """
    query = select(
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
    if state is not None:
        query = query.where(sagas.c.state == state)
    if name is not None:
        query = query.where(sagas.c.name == name)
    if before is not None:
        # By key, not by offset: the cost of a page does not grow with its number.
        last = connection.execute(select(sagas.c.created_at, sagas.c.id).where(sagas.c.id == before)).one()
        query = query.where(tuple_(sagas.c.created_at, sagas.c.id) < tuple_(*last))
    query = query.order_by(sagas.c.created_at.desc(), sagas.c.id.desc()).limit(limit)
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
    digits = given.strip().replace("-", "").lower()
    if not PREFIX_LENGTH <= len(digits) <= 32 or not set(digits) <= set("0123456789abcdef"):  # noqa: PLR2004 - a UUID
        raise InvalidInput(f"{given!r} is no id of a saga; give the id or its first {PREFIX_LENGTH} characters or more")
    # A range, not LIKE: the primary key's index serves it.
    first, last = (str(uuid.UUID(digits.ljust(32, filler))) for filler in "0f")
    found = connection.scalars(select(sagas.c.id).where(sagas.c.id.between(first, last)).limit(2)).all()
    if not found:
        raise SagaNotFound(f"there is no saga {given} in this database")
    if len(found) > 1:
        raise InvalidInput(f"several sagas have an id that begins with {given}; give more of it")
    return str(found[0])


_SAGA = text("""
    SELECT id, name, version, kind, state, paused_from, input, idempotency_key, error, hints,
        created_at, ended_at, useful_until, next_at, saga_now() AS now,
        extract(epoch FROM coalesce(ended_at, saga_now()) - created_at)::float AS seconds
    FROM sagas WHERE id = CAST(:id AS uuid)
""")

_STEPS = text("""
    SELECT name, position, external, state, attempts, undo_attempts, probes, owner, output, error, receipt,
        started_at, finished_at,
        extract(epoch FROM finished_at - started_at)::float AS seconds,
        extract(epoch FROM due_at - saga_now())::float AS due_in,
        extract(epoch FROM lease_until - saga_now())::float AS leased_for
    FROM saga_steps WHERE saga_id = CAST(:id AS uuid) ORDER BY position
""")

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
    """Return a saga that exists."""
    return connection.execute(_SAGA, {"id": saga_id}).mappings().one()


def steps(connection: Connection, saga_id: str) -> Sequence[RowMapping]:
    """Return the steps of a saga, in their order."""
    return connection.execute(_STEPS, {"id": saga_id}).mappings().all()


def events(connection: Connection, saga_id: str) -> Sequence[RowMapping]:
    """Return the history of a saga, the oldest event first."""
    return connection.execute(_EVENTS, {"id": saga_id}).mappings().all()


def reviews(connection: Connection, saga_id: str) -> Sequence[RowMapping]:
    """Return the questions to a person that a saga has raised, the oldest first."""
    return connection.execute(_REVIEWS, {"id": saga_id}).mappings().all()
