"""The sweeps' SQL: what is due is found by an index, so that cost follows what is due and not the table (SPEC 8)."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import text

LAST_RUN = text("""
    SELECT cursor, date_trunc('minute', ran_at) = date_trunc('minute', saga_now()) AS this_minute
    FROM sweeps WHERE name = :name
""")
"""Where the last run of a sweep left off, and whether it was within the present minute."""

NOTE = text("""
    INSERT INTO sweeps AS s (name, cursor, ran_at, seconds, found)
    VALUES (:name, CAST(:cursor AS jsonb), saga_now(), :seconds, :found)
    ON CONFLICT (name) DO UPDATE SET
        cursor = coalesce(excluded.cursor, s.cursor), ran_at = excluded.ran_at, seconds = excluded.seconds,
        found = excluded.found
""")
"""Note a run. Of two at once the later one is noted."""

CASES_DUE = text("""
    WITH due AS MATERIALIZED (
        SELECT id, saga_id, look_at, urgent_at FROM review_cases
        WHERE closed_at IS NULL AND look_at <= saga_now()
    ), batch AS (
        SELECT due.id, due.urgent_at FROM due JOIN sagas g ON g.id = due.saga_id
        WHERE g.kind = 'declared' AND g.name = ANY(:known)
        ORDER BY due.look_at LIMIT :batch
    )
    SELECT id FROM batch ORDER BY urgent_at NULLS LAST, id
""")
"""Open cases that are to be looked at again, of kinds that this process knows; the nearest appointment first.

Materialized: joined in one go, a planner that has several processes to spend reads all cases there ever were.
"""

TAKE_CASE = text("""
    UPDATE review_cases r SET look_at = saga_now() + make_interval(secs => :lease)
    FROM sagas g
    WHERE r.id = :id AND r.closed_at IS NULL AND r.look_at <= saga_now() AND g.id = r.saga_id
    RETURNING r.id, r.saga_id, r.step, r.was, r.looks, g.name
""")
"""Take a case for a look (compare and set). No row: another sweep has it, or it was closed."""

PUT_BACK = text("""
    UPDATE review_cases SET looks = looks + :counted, look_at = saga_now() + make_interval(secs => :delay)
    WHERE id = :id AND closed_at IS NULL
""")
"""Put a case off that a look did not settle."""

STILL_ASKED = text("""
    SELECT id FROM sagas WHERE id = CAST(:id AS uuid) AND state = 'manual_review_required' AND ended_at IS NULL
    FOR NO KEY UPDATE
""")
"""Lock a saga that a person is still asked about. No row: somebody was faster, with a remedy."""

CLOSE_CASE = text("""
    WITH closed AS (
        UPDATE review_cases SET closed_at = saga_now(), closed_by = 'sagajobs', resolution = 'settled', why = :why
        WHERE id = :id AND closed_at IS NULL
        RETURNING id, saga_id, step
    ), event AS (
        INSERT INTO saga_events (saga_id, event, step, detail)
        SELECT saga_id, 'review_closed', step,
            jsonb_build_object('case', id, 'who', 'sagajobs', 'why', CAST(:why AS text), 'resolution', 'settled')
        FROM closed
    ), error AS (
        UPDATE sagas g SET error = NULL FROM closed WHERE g.id = closed.saga_id AND :forward
    )
    SELECT id FROM closed
""")
"""Close a case that a look has settled, and say so in the history. No row: it was closed by somebody else.

A saga that goes forward again has not failed: what it was asked about is in its history.
"""

ASK_ANEW = text("""
    UPDATE review_cases SET reason = :reason, evidence = evidence || CAST(:evidence AS jsonb)
    WHERE id = :id AND closed_at IS NULL
""")
"""Put on an open case what a look has made of its question."""

OVERDUE = text("""
    SELECT r.id FROM review_cases r WHERE r.closed_at IS NULL AND r.alert_at <= saga_now()
    ORDER BY r.urgent_at NULLS LAST, r.id LIMIT :batch
""")
"""Open cases that are over their response time, the nearest appointment first."""

TAKE_OVERDUE = text("""
    WITH saga AS (
        SELECT g.id, g.name FROM sagas g JOIN review_cases r ON r.saga_id = g.id WHERE r.id = :id
        FOR NO KEY UPDATE OF g
    ), alerted AS (
        UPDATE review_cases r SET alerts = alerts + 1,
            alert_at = least(
                saga_now() + make_interval(secs => least(:response * power(2, least(r.alerts, 20)), :longest)),
                CASE WHEN r.urgent_at - make_interval(secs => :near) > saga_now()
                     THEN r.urgent_at - make_interval(secs => :near) END)
        FROM saga
        WHERE r.id = :id AND r.closed_at IS NULL AND r.alert_at <= saga_now() AND saga.id = r.saga_id
        RETURNING r.id, r.saga_id, r.step, r.alerts, saga.name
    ), event AS (
        INSERT INTO saga_events (saga_id, event, step, detail)
        SELECT saga_id, 'review_overdue', step, jsonb_build_object('case', id, 'alert', alerts) FROM alerted
    )
    SELECT saga_id, step, alerts, name FROM alerted
""")
"""Take a case for an alert (compare and set), with an event in its saga's history; the next one is later, and again
when the appointment is near.

The saga is locked first, as by whatever else writes its history: an event of a step that goes on beside the failed one
would else be numbered before this one and committed after it, and a subscriber would pass it over (`outbox`).
"""

_OLD = """
    ended_at < saga_now() - make_interval(days => :days)
        AND NOT EXISTS (SELECT FROM review_cases r WHERE r.saga_id = g.id AND r.closed_at IS NULL)
"""

PURGE = text(f"""
    WITH old AS (
        SELECT g.id FROM sagas g
        WHERE {_OLD} AND NOT EXISTS (SELECT FROM saga_uncounted u WHERE u.saga_id = g.id)
        ORDER BY g.ended_at LIMIT :batch FOR UPDATE OF g SKIP LOCKED
    ), gone AS (
        DELETE FROM sagas g USING old WHERE g.id = old.id RETURNING g.name, g.state
    )
    SELECT name || '/' || state AS what, count(*) AS n FROM gone GROUP BY 1
""")  # noqa: S608 - no value in it
"""Delete sagas that ended long ago, the oldest first; what has not been added up yet (`totals`) stays.

Steps, events, closed cases and locks go with their saga (ON DELETE CASCADE).
"""

PURGEABLE = text(f"""
    SELECT g.name || '/' || g.state AS what, count(*) AS n FROM sagas g WHERE {_OLD} GROUP BY 1 ORDER BY 1
""")  # noqa: S608 - no value in it
"""What `PURGE` would delete, all in all."""


def as_json(value: Any) -> str | None:
    """Return a cursor as it is bound: JSON, or null for none."""
    return None if value is None else json.dumps(value)
