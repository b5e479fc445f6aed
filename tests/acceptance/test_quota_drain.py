"""More bookings than Cal.com takes at once drain through real workers without a single 429, and wait quietly (SPEC 9).

In a shortened minute; `benchmarks/quota.py` does it in real time.
"""

from __future__ import annotations

from sqlalchemy import text

from sagajobs import AppointmentCreationSaga
from tests.support import timelapse

BOOKINGS = 200
CALLS = 80
"""Calls that Cal.com takes in its (shortened) minute: fewer than two workers would make."""

LATE = 4
"""Calls, one of each process, that Cal.com may get when they do not count here any more: the machine stood still."""

STALL_AFTER = 60.0
"""Seconds: a hint that waits in a queue is not sent again meanwhile, and each counts here."""


def test_bookings_drain_without_a_429(workers, booking, simulator, app_engine, db, tmp_path, monkeypatch):
    monkeypatch.setattr(app_engine.executor, "stall_after", STALL_AFTER)
    simulator.limit(CALLS + LATE, window=timelapse.MINUTE)
    counts = tmp_path / "counts.log"
    options = {
        "SHORT_MINUTE": "1",
        "COUNT_FILE": str(counts),
        "SAGAJOBS_CALCOM_QUOTA": str(CALLS),
        "SAGAJOBS_CALCOM_READ_TIMEOUT": "60",
        "SAGAJOBS_STALL_AFTER": str(STALL_AFTER),
    }
    for beat in (True, False):
        workers(concurrency=2, beat=beat, **options)

    handles = [AppointmentCreationSaga.enqueue(booking()) for _ in range(BOOKINGS)]
    assert {handle.wait(200) for handle in handles} == {"completed"}

    calls = simulator.calls()
    assert [call for call in calls if call["status"] == 429] == []
    assert timelapse.fullest(calls) <= CALLS + LATE
    (attempts,) = db.execute(text("SELECT sum(attempts) FROM saga_steps WHERE name = 'book_calcom'")).one()
    assert attempts == BOOKINGS, "none wasted"
    assert len(simulator.standing()) == BOOKINGS
    hints = counts.read_text().splitlines().count(f"message {AppointmentCreationSaga.name}.book_calcom")
    assert BOOKINGS < hints < 3 * BOOKINGS, "they waited, and did not storm"
