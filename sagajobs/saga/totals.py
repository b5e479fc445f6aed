"""What all sagas there ever were come to, by kind: counters and histograms that never fall, whoever reads them.

They are read from the history, so they are the same in every process, and right whoever did the work. A saga that has
ended is added to the table `saga_totals` once, by a sweep, and may be purged only then. That it is once stands on one
row: the commit that ends a saga puts it into `saga_uncounted` (a trigger, so that no way to end one can forget it), and
the one statement that adds it up takes it out. Clocks, and the order in which transactions commit, do not come into it.

`TOTALS` reads in one statement, hence in one snapshot: what was added up, what has ended since, and what the unfinished
have gone through so far. Each saga is in one of the three; the history is append-only; so no figure falls when a saga
goes from one to the next.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, text

from sagajobs.saga.events import Lifecycle
from sagajobs.saga.locks import ACQUIRED

if TYPE_CHECKING:
    from sagajobs.saga.database import Database

BOUNDS = (
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    1_800_000.0,
    3_600_000.0,
    21_600_000.0,
    86_400_000.0,
)
"""Upper bounds of the histograms' buckets in milliseconds: a booking takes tens of them, one that waits for Cal.com, or
for a person, hours. 100 is the seed's own limit for the wait for a lock."""

BATCH = 1000
"""Sagas added up in one transaction: some ten lines of history each."""

READ_AT_ONCE = 5_000
"""Ended sagas, those that have waited longest to be added up, that a reader adds up himself. Of more he would leave
some out, and what he has counted of them while they were under way would be missing: `caught_up` sees to it."""

LEFT = BATCH
"""Ended sagas that `caught_up` leaves to the reader; so many more as he reads at once may end before he does. What is
left is read anew each time, so it is little."""

PATIENCE = 0.15
"""Seconds after which `caught_up` begins no batch any more: somebody waits for the figures, 300 ms at the most. It is
some thousands of sagas, more than end between two scrapes."""

ORCHESTRATED = "orchestrated"
"""The kind under which all orchestrated sagas are counted: their names are their callers' own, and without end."""

SAGA = f"CASE g.kind WHEN 'declared' THEN g.name ELSE '{ORCHESTRATED}' END"
"""SQL, of a row `g` of `sagas`: the kind under which it is counted."""

UNFINISHED = """
    g.state IN ('pending', 'running', 'partial', 'compensating', 'paused', 'manual_review_required')
    AND g.state <> 'completed' AND g.ended_at IS NULL
"""
"""SQL, likewise: it has not ended. In the words of `ix_sagas_state`, which serves it."""

_UNDOING = (Lifecycle.COMPENSATION_STARTED, Lifecycle.COMPENSATION_COMPLETED, Lifecycle.COMPENSATION_FAILED)

_FAILED = (
    *_UNDOING,
    Lifecycle.SAGA_CANCELLED,
    Lifecycle.SAGA_COMPENSATED,
    Lifecycle.SAGA_ABANDONED,
    Lifecycle.REVIEW_REQUIRED,
)
"""Events of which each says that a saga did not go through by itself. It turns round without an event of its own, and
is `compensating` until it has one of these."""

_TURNING = (Lifecycle.STEP_FAILED, Lifecycle.SAGA_CANCELLED, Lifecycle.REVIEW_CLOSED)
"""Events that turn a saga round; the last one before its first undo did."""


def _words(events: tuple[Lifecycle, ...]) -> str:
    return ", ".join(f"'{event}'" for event in events)


_CHOSEN = f"SELECT g.id, {SAGA} AS saga, g.state, coalesce(g.paused_from, g.state) AS meant, g.created_at, g.ended_at"

_ITS_SAGA = "LATERAL (SELECT * FROM sagas WHERE id = u.saga_id LIMIT 1) g"
"""Looked up one by one: of a table that is emptied all the time the database does not know how many rows there are, and
where it takes them for many, it reads all sagas there are."""

_MEASURED = f"""
    told AS (
        SELECT chosen.*, e.* FROM chosen CROSS JOIN LATERAL (
            SELECT
                count(*) FILTER (WHERE e.event = '{Lifecycle.COMPENSATION_FAILED}') AS critical,
                count(*) FILTER (WHERE e.event IN ('{Lifecycle.STEP_RETRY}', '{Lifecycle.STEP_DEGRADED}')
                    AND e.detail->>'kind' IS DISTINCT FROM 'deferred') AS retries,
                count(*) FILTER (WHERE e.event = '{Lifecycle.COMPENSATION_RETRY}'
                    AND e.detail->>'kind' IS DISTINCT FROM 'deferred') AS undo_retries,
                coalesce(bool_or(e.event IN ({_words(_FAILED)})), false) AS failed,
                min(e.id) FILTER (
                    WHERE e.event IN ({_words((*_UNDOING, Lifecycle.SAGA_COMPENSATED))})) AS undo_id,
                min(e.at) FILTER (
                    WHERE e.event IN ({_words((*_UNDOING, Lifecycle.SAGA_COMPENSATED))})) AS undo_at,
                coalesce(sum(CAST(e.detail->>'waited_ms' AS float8)) FILTER (WHERE e.event = '{ACQUIRED}'), 0) AS waited
            FROM saga_events e WHERE e.saga_id = chosen.id
        ) e
    ), measured AS (
        SELECT saga, 'execution_ms' AS measure,
            CASE state WHEN 'manual_review_required' THEN 'abandoned' ELSE state END AS label,
            1000 * extract(epoch FROM ended_at - created_at)::float8 AS ms, 1 AS n
        FROM told WHERE ended_at IS NOT NULL
        UNION ALL
        SELECT saga, 'compensation_ms', '', 1000 * extract(epoch FROM ended_at - coalesce((
                SELECT max(f.at) FROM saga_events f
                WHERE f.saga_id = told.id AND f.id < told.undo_id AND f.event IN ({_words(_TURNING)})
            ), undo_at, ended_at))::float8, 1
        FROM told WHERE state = 'compensated'
        UNION ALL
        SELECT saga, 'lock_wait_ms', '', waited, 1 FROM told WHERE ended_at IS NOT NULL
        UNION ALL
        SELECT saga, 'failed', '', NULL, 1 FROM told
        WHERE failed OR meant IN ('compensating', 'compensated', 'manual_review_required')
        UNION ALL
        SELECT saga, 'critical', '', NULL, critical FROM told WHERE critical > 0
        UNION ALL
        SELECT saga, 'retries', 'step', NULL, retries FROM told WHERE retries > 0
        UNION ALL
        SELECT saga, 'retries', 'undo', NULL, undo_retries FROM told WHERE undo_retries > 0
    ), counted AS (
        SELECT saga, measure, label,
            coalesce((SELECT min(b) FROM unnest(CAST(:bounds AS float8[])) b WHERE b >= ms), 'Infinity') AS upto,
            CAST(sum(n) AS bigint) AS n, coalesce(sum(round(ms * 8) / 8), 0) AS total
        FROM measured GROUP BY 1, 2, 3, 4
    )
"""  # noqa: S608 - no value in it
"""What the sagas in `chosen` come to, by kind, measure, label and bucket; what is only counted is in the last one.

Milliseconds are summed in eighths, which are added without rounding: else a sum would depend on the order, and could
fall by its last digit, which Prometheus takes for a restart and counts all of it once more."""

ADD = text(f"""
    WITH taken AS (
        DELETE FROM saga_uncounted WHERE id IN (
            SELECT id FROM saga_uncounted ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED)
        RETURNING saga_id
    ), chosen AS (
        {_CHOSEN} FROM taken u, {_ITS_SAGA}
    ), {_MEASURED}, added AS (
        INSERT INTO saga_totals AS t (saga, measure, label, upto, n, total)
        SELECT saga, measure, label, upto, n, total FROM counted ORDER BY 1, 2, 3, 4
        ON CONFLICT (saga, measure, label, upto) DO UPDATE SET n = t.n + excluded.n, total = t.total + excluded.total
    )
    SELECT count(*) FROM taken
""")  # noqa: S608 - no value in it
"""Add up a batch of the sagas that have ended, those that have waited longest. In the order of the totals' key, so that
two that run at once wait for each other and not in a circle."""

TOTALS = text(f"""
    WITH chosen AS (
        {_CHOSEN} FROM sagas g WHERE {UNFINISHED} AND g.state <> 'pending'
        UNION ALL
        {_CHOSEN} FROM (SELECT saga_id FROM saga_uncounted ORDER BY id LIMIT {READ_AT_ONCE}) u, {_ITS_SAGA}
    ), {_MEASURED}
    SELECT saga, measure, label, upto, CAST(sum(n) AS bigint) AS n, sum(total) AS total FROM (
        SELECT saga, measure, label, upto, n, total FROM saga_totals
        UNION ALL SELECT saga, measure, label, upto, n, total FROM counted
    ) whole GROUP BY 1, 2, 3, 4
""")  # noqa: S608 - no value in it
"""All that there ever was. A pending saga has not been through anything yet: a backlog is not read."""

_NO_WAIT_FOR_THE_DISK = text("SET LOCAL synchronous_commit TO off")
"""Should a crash of the server take a batch that has been added up, it takes all of it: the sagas wait to be added up
as before, and come to the same. The purge deletes them in a later commit, which does not last without this one."""

_WAITING = text("SELECT count(*) FROM (SELECT FROM saga_uncounted LIMIT :most) u")


class Total(NamedTuple):
    """One figure.

    Attributes:
        saga: the kind, `orchestrated` for all orchestrated ones.
        measure: `execution_ms`, `compensation_ms`, `lock_wait_ms`, `failed`, `critical` or `retries`.
        label: of `execution_ms` the end (completed, compensated, abandoned), of `retries` what is tried again (step,
            undo), else empty.
        upto: the bucket's upper bound in milliseconds, infinite for the last one and for what is only counted.
        n: how many.
        total: their milliseconds all in all.
    """

    saga: str
    measure: str
    label: str
    upto: float
    n: int
    total: float


def add_up(database: Database, *, batch: int = BATCH, budget: float | None = None) -> int:
    """Add up the sagas that have ended since, batch by batch.

    Args:
        database: whose sagas.
        batch: sagas in one transaction.
        budget: seconds after which the rest is left for later, None for no such end.

    Returns:
        How many there were.
    """
    began = time.monotonic()
    total = 0
    while True:
        with database.transaction() as connection:
            connection.execute(_NO_WAIT_FOR_THE_DISK)
            taken: int = connection.execute(ADD, {"batch": batch, "bounds": list(BOUNDS)}).scalar_one()
        total += taken
        if taken < batch or (budget is not None and time.monotonic() - began > budget):
            return total


def caught_up(database: Database, *, patience: float = PATIENCE) -> bool:
    """Return whether `totals` is whole now; where no sweep has added up for long, add up some of what has ended.

    Args:
        database: whose sagas.
        patience: seconds after which no batch is begun any more; one is in any case, so that each call comes further.
    """
    until = time.monotonic() + patience
    while _waiting(database) > LEFT:
        add_up(database, budget=0.0)
        if time.monotonic() >= until:
            return _waiting(database) <= LEFT
    return True


def _waiting(database: Database) -> int:
    """Return how many ended sagas are to be added up, one more than may be left if it is more."""
    with database.reading() as connection:
        waiting: int = connection.execute(_WAITING, {"most": LEFT + 1}).scalar_one()
    return waiting


def totals(connection: Connection) -> list[Total]:
    """Return all figures, as of now; they are whole after `caught_up`."""
    return [Total(*row) for row in connection.execute(TOTALS, {"bounds": list(BOUNDS)})]
