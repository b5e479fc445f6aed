"""More bookings than Cal.com takes at once drain through real workers without a single 429 (SPEC 9).

In a shortened minute; `benchmarks/quota.py` does it in real time.
"""

from __future__ import annotations

import statistics
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga
from sagajobs.saga.sweeps.sweep import TASK_PREFIX
from tests.support import timelapse

NEAR, FAR = 30, 270
CALLS = 80
"""Calls that Cal.com takes in its (shortened) minute: fewer than two workers would make."""

STEPS = len(AppointmentCreationSaga.definition.steps)


@pytest.mark.timeout(150)
def test_bookings_drain_without_a_429(workers, booking, simulator, app_engine, db, tmp_path):
    simulator.limit(CALLS, window=timelapse.MINUTE)
    counts = tmp_path / "counts.log"
    options = {"SHORT_MINUTE": "1", "SAGAJOBS_CALCOM_QUOTA": str(CALLS), "COUNT_FILE": str(counts)}
    for beat in (True, False):
        workers(concurrency=2, beat=beat, **options)
    soon = (datetime.now(UTC) + timedelta(hours=12)).replace(minute=0, second=0, microsecond=0)
    requests = [booking() for _ in range(FAR)]
    requests += [booking(start=soon + timedelta(minutes=30 * (n // 5))) for n in range(NEAR)]

    handles = [AppointmentCreationSaga.enqueue(request) for request in requests]
    assert {handle.wait(100) for handle in handles} == {"completed"}

    calls = simulator.calls()
    assert [call for call in calls if call["status"] == 429] == []
    assert timelapse.fullest(calls) <= CALLS
    (attempts,) = db.execute(text("SELECT sum(attempts) FROM saga_steps WHERE name = 'book_calcom'")).one()
    assert attempts == len(requests), "none wasted"
    assert len(simulator.standing()) == len(requests)
    ends = dict(tuple(row) for row in db.execute(text("SELECT id::text, extract(epoch FROM ended_at) FROM sagas")))
    far, near = ([ends[one.id] for one in some] for some in (handles[:FAR], handles[FAR:]))
    assert statistics.median(near) < statistics.median(far), "though they were asked for last"
    lines = counts.read_text().splitlines()
    messages = sum(line.startswith("message ") and not line.startswith(f"message {TASK_PREFIX}") for line in lines)
    own = (STEPS - 1) * len(requests)  # the first of each was sent from here
    assert own < messages < own + 8 * len(requests), "they waited, and did not storm"
    print(
        "waits",
        messages - own,
        "commits",
        lines.count("commit "),
        calls[-1]["at"] - calls[0]["at"],
        timelapse.fullest(calls),
    )
