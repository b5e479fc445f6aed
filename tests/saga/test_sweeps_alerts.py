"""The review sweep says what is overdue: the nearest appointment first, and ever more rarely."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from sagajobs.saga.sweeps.review import BATCH
from sagajobs.testing.waiting import wait_for
from tests.support.reviewing import ASKED, history, in_doubt, sweep
from tests.support.tables import change

pytestmark = pytest.mark.usefixtures("world", "_quiet")


def alerts(caplog) -> list[str]:
    return [line.saga_id for line in caplog.records if getattr(line, "event", None) == "review_overdue"]


@pytest.fixture
def overdue(app_engine, caplog):
    """Sweep, and return the ids of the sagas that were alerted about, in order."""

    def go() -> list[str]:
        caplog.clear()
        change(app_engine, "UPDATE review_cases SET look_at = saga_now() + interval '1 day'")
        with caplog.at_level(logging.CRITICAL, "saga"):
            sweep(app_engine)
        assert all(line.levelno == logging.CRITICAL for line in caplog.records if hasattr(line, "event"))
        return alerts(caplog)

    return go


def age(app_engine, minutes: float) -> None:
    change(
        app_engine,
        "UPDATE review_cases SET opened_at = opened_at - make_interval(secs => :s), "
        "alert_at = alert_at - make_interval(secs => :s), urgent_at = urgent_at - make_interval(secs => :s)",
        s=minutes * 60,
    )


def test_a_case_is_alerted_about_when_its_response_time_is_over_and_then_ever_more_rarely(app_engine, db, overdue):
    handle = in_doubt(app_engine)
    assert overdue() == [], "its opening was an alert"
    age(app_engine, 14)
    assert overdue() == []
    gaps = []
    age(app_engine, 1.1)
    for _ in range(7):
        assert overdue() == [handle.id]
        assert overdue() == [], "once"
        gaps.append(
            float(db.execute(text("SELECT extract(epoch FROM alert_at - saga_now()) FROM review_cases")).scalar_one())
        )
        age(app_engine, gaps[-1] / 60 + 0.1)
    assert [round(gap / 60) for gap in gaps] == [15, 30, 60, 120, 240, 240, 240]
    assert history(db, handle.id).count("review_overdue") == 7


def test_a_case_is_alerted_about_sooner_when_its_appointment_is_near(app_engine, db, overdue):
    soon, far = in_doubt(app_engine, useful_for="66 min"), in_doubt(app_engine)
    assert overdue() == []
    age(app_engine, 7)
    assert overdue() == [soon.id]
    age(app_engine, 10)
    assert overdue() == [far.id]


def test_the_nearest_appointment_is_alerted_about_first(app_engine, db, overdue):
    handles = [in_doubt(app_engine) for _ in range(3)]
    for handle, days in zip(handles, (9, 3, 6), strict=True):
        change(
            app_engine,
            "UPDATE review_cases SET urgent_at = saga_now() + make_interval(days => :d) WHERE saga_id = :id",
            d=days,
            id=handle.id,
        )
    age(app_engine, 16)
    assert overdue() == [handles[1].id, handles[2].id, handles[0].id]


def test_an_alert_takes_its_place_in_the_history_behind_what_is_being_committed(app_engine, db, overdue):
    """Else a subscriber who passes over what comes behind a higher number would miss what others do to the saga."""
    handle = in_doubt(app_engine)
    age(app_engine, 16)
    waits = text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%alerted%'
    """)
    with ThreadPoolExecutor(1) as pool:
        with app_engine.database.transaction() as other:
            other.execute(text("UPDATE sagas SET updated_at = saga_now() WHERE id = :id"), {"id": handle.id})
            sweeping = pool.submit(overdue)
            wait_for(lambda: db.execute(waits).scalar_one() == 1, what="an alert that waits for the saga")
        assert sweeping.result() == [handle.id]


def test_a_batch_has_an_end(app_engine, db, overdue):
    handle = in_doubt(app_engine)
    assert handle.status() == ASKED
    change(
        app_engine,
        "WITH g AS (INSERT INTO sagas (id, name, version, definition, state, input) "
        "SELECT gen_random_uuid(), 'scripted', 1, '', 'manual_review_required', '{}' FROM generate_series(1, :n) "
        "RETURNING id) INSERT INTO review_cases (saga_id, reason, evidence) SELECT id, 'r', '{}' FROM g",
        n=BATCH,
    )
    age(app_engine, 16)
    assert len(overdue()) == BATCH
    assert len(overdue()) == 1
