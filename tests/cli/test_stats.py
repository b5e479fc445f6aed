"""`sagas stats`: what is at hand, what ended, what stands in the way."""

from __future__ import annotations

import re

from sqlalchemy import text

from tests.cli.inprocess import sagajobs
from tests.support.asked import ask

_ROWS = (
    """
    INSERT INTO sagas (id, name, version, definition, state, input, created_at, ended_at, error)
    SELECT gen_random_uuid(), 'appointment_creation', 1, 'd', state, '{}',
        saga_now() - ago - n * interval '1 s', saga_now() - ago, error
    FROM generate_series(1, 100) n, (VALUES
        ('completed', interval '10 min', NULL),
        ('completed', interval '5 h', NULL),
        ('completed', interval '3 days', NULL),
        ('compensated', interval '2 h', '{"step": "book_segment[3]", "class": "a.b.SlotTaken"}'::jsonb)
    ) AS e(state, ago, error)
    """,
    """
    INSERT INTO sagas (id, name, version, definition, state, input, next_at, created_at)
    SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'appointment_sync', 1, 'd', 'running', '{}',
        saga_now() - interval '2 min', saga_now() - n * interval '1 h'
    FROM generate_series(1, 3) n
    """,
    """
    INSERT INTO saga_steps (saga_id, name, position, stage, external, state, error)
    SELECT id, 'call_calcom', 1, 1, true, 'waiting', '{"class": "c.CalcomUnavailable", "message": "mia.secret"}'
    FROM sagas WHERE next_at IS NOT NULL
    """,
)


def test_everything_is_counted(nobody_told):
    ask(nobody_told)
    gone = ask(nobody_told)
    nobody_told.review.abandon(gone.case, who="Ann", why="the test wants it")
    with nobody_told.database.transaction() as db:
        for statement in _ROWS:
            db.execute(text(statement))
    done = sagajobs("sagas", "stats", "--json")
    assert done.status == 0, done.err
    found = done.json
    assert found["at_hand"] == [
        {"name": "appointment_creation", "state": "manual_review_required", "sagas": 1},
        {"name": "appointment_sync", "state": "running", "sagas": 3},
    ]
    ended = {one["outcome"]: one for one in found["ended"]}
    assert {outcome: (one["within_hour"], one["within_day"]) for outcome, one in ended.items()} == {
        "completed": (100, 200),
        "compensated": (0, 100),
        "abandoned": (1, 1),
    }
    assert abs(ended["compensated"]["p50"] - 50.5) < 0.01
    assert abs(ended["compensated"]["p95"] - 95.05) < 0.01
    assert [tuple(one.values()) for one in found["causes"]] == [
        ("appointment_creation", "create_customer", "CalcomUnavailable", 0, 1, 0),
        ("appointment_sync", "call_calcom", "CalcomUnavailable", 3, 0, 0),
        ("appointment_creation", "book_segment", "SlotTaken", 0, 0, 100),
    ]
    oldest = {"id": "00000000-0000-4000-8000-000000000003", "name": "appointment_sync", "state": "running"}
    assert found["backlog"]["oldest"].items() >= oldest.items()
    assert {key: found["backlog"][key] for key in ("unfinished", "due", "overdue", "cases", "too_late")} == {
        "unfinished": 3,
        "due": 3,
        "overdue": 3,
        "cases": 1,
        "too_late": 0,
    }

    plain = sagajobs("sagas", "stats").out
    assert re.search(r"^appointment_creation +compensated +0 +100 +50 s +1 min 35 s$", plain, re.MULTILINE)
    assert re.search(r"^appointment_sync +call_calcom +CalcomUnavailable +3 +0 +0$", plain, re.MULTILINE)
    assert f"3 due, 3 overdue; the oldest, {oldest['id']} (appointment_sync), for 3 h\n" in plain
    assert "secret" not in plain
    with nobody_told.database.transaction() as db:
        db.execute(text("DELETE FROM sagas"))
    assert sagajobs("sagas", "stats").out == (
        "no saga is at hand\n\nno saga ended within a day\n\nno saga has failed at anything\n\n"
        "unfinished: 0, 0 due, 0 overdue\nwaiting for a person: 0\n"
        "what is wrong, if anything is, and what to do: sagajobs health\n"
    )
