"""What sagas there are, what became of those that ended lately, how long they took, and what stands in their way.

Everything is found by index: what is at hand, and what ended within a day. What ended before costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from sagajobs.desk.health import Backlog, backlog
from sagajobs.saga.states import SagaState

ABANDONED = "abandoned"
"""What is said of a saga that ended in manual review."""

MOST_CAUSES = 50
"""Rows of causes at most: a step that is done for many items is one, but an author's errors may be of any class."""

_AT_HAND = text("""
    SELECT name, state, count(*) AS sagas FROM sagas
    WHERE state IN ('pending', 'running', 'partial', 'compensating', 'paused', 'manual_review_required')
        AND state <> 'completed' AND ended_at IS NULL
    GROUP BY name, state ORDER BY name, state
""")

_ENDED = text("""
    SELECT name, state,
        count(*) FILTER (WHERE ended_at > saga_now() - interval '1 hour') AS within_hour,
        count(*) AS within_day,
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
            ORDER BY extract(epoch FROM ended_at - created_at)::float) AS seconds
    FROM sagas WHERE ended_at > saga_now() - interval '1 day'
    GROUP BY name, state ORDER BY name, state
""")

_CAUSES = text(r"""
    WITH unfinished AS MATERIALIZED (SELECT id, name FROM sagas WHERE next_at IS NOT NULL),
    seen AS (
        SELECT g.name, s.name AS step, s.error->>'class' AS class, 'trying' AS what
        FROM unfinished g JOIN saga_steps s ON s.saga_id = g.id
        WHERE s.error IS NOT NULL
            AND s.state IN ('waiting', 'running', 'unknown', 'failed', 'undoing', 'undo_failed')
        UNION ALL
        SELECT (SELECT name FROM sagas WHERE id = c.saga_id), c.step,
            coalesce(c.evidence->'error'->>'class', c.evidence->'probe'->>'class'), 'asked'
        FROM review_cases c WHERE c.closed_at IS NULL
        UNION ALL
        SELECT name, error->>'step', error->>'class', 'undone'
        FROM sagas WHERE ended_at > saga_now() - interval '1 day' AND state = 'compensated'
    )
    SELECT name, regexp_replace(step, '\[[0-9]+\]$', '') AS step, regexp_replace(class, '^.*[.]', '') AS cause,
        count(*) FILTER (WHERE what = 'trying') AS trying,
        count(*) FILTER (WHERE what = 'asked') AS asked,
        count(*) FILTER (WHERE what = 'undone') AS undone
    FROM seen GROUP BY 1, 2, 3 ORDER BY asked DESC, trying DESC, undone DESC, 1, 2, 3 LIMIT :limit
""")
"""The saga of a case is looked up by itself, and what is unfinished read first: joined to a thousand cases, or read
beside the rest by several processes, all sagas would be gone through."""


@dataclass(frozen=True, slots=True)
class AtHand:
    """So many sagas of one kind have not ended and are in one state."""

    name: str
    state: SagaState
    sagas: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of sagas of one kind that ended within a day.

    Attributes:
        name: their kind.
        outcome: `completed`, `compensated` or `abandoned`.
        within_hour, within_day: so many ended within the last hour, and day.
        p50, p95: seconds from their start to their end, of those of the day, that half of them took at most, and 95 %.
    """

    name: str
    outcome: str
    within_hour: int
    within_day: int
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Cause:
    """One class of error at one step of one kind.

    Attributes:
        name: the kind; `step` as declared, None if it is about none.
        cause: the error's class, without its module; None if there was none.
        trying: sagas that are unfinished and have it on record: they try again, or are being undone for it.
        asked: cases that wait for a person.
        undone: sagas that it had undone within the last day.
    """

    name: str
    step: str | None
    cause: str | None
    trying: int
    asked: int
    undone: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """How it goes."""

    at_hand: Sequence[AtHand]
    ended: Sequence[Ended]
    causes: Sequence[Cause]
    backlog: Backlog


def statistics(connection: Connection) -> Statistics:
    """Return how it goes."""
    return Statistics(
        at_hand=[AtHand(row.name, SagaState(row.state), row.sagas) for row in connection.execute(_AT_HAND)],
        ended=[
            Ended(
                row.name,
                ABANDONED if row.state == SagaState.MANUAL_REVIEW_REQUIRED else row.state,
                row.within_hour,
                row.within_day,
                *row.seconds,
            )
            for row in connection.execute(_ENDED)
        ],
        causes=[Cause(*row) for row in connection.execute(_CAUSES, {"limit": MOST_CAUSES})],
        backlog=backlog(connection),
    )
