"""Cal.com is away while many changes are under way: nobody hammers it, and all of them are made when it is back."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from sagajobs import AppointmentSyncSaga
from tests.support.syncing import assert_in_step, change
from tests.support.waiting import wait_for

CHANGES = 200

TO_OPEN = 5 + 4
"""Calls that open the circuit, and those that four workers had sent by then."""

TRIALS = 12
"""Trials for which Cal.com is away; one a second here (`tests/conftest.py`), one in half a minute otherwise."""


@pytest.mark.timeout(240)
def test_no_attempt_is_wasted_and_all_are_made_up_for(workers, planted, simulator, app_engine, db):
    appointments = [planted() for _ in range(CHANGES)]
    asked = [(one, ("cancel", "reschedule")[n % 2]) for n, one in enumerate(appointments)]
    simulator.fault("any", "http_503", "before", count=100_000)
    before, began = simulator.counts()["calls"], time.monotonic()
    for _ in range(2):
        workers(concurrency=2, beat=True)
    handles = [AppointmentSyncSaga.enqueue(one.id, operation, change(one, operation)) for one, operation in asked]
    # Each has begun: the outage meets all of them.
    wait_for(lambda: waiting(db) == CHANGES, 60)
    wait_for(lambda: simulator.counts()["calls"] - before >= TO_OPEN + TRIALS, 60)
    in_vain = simulator.counts()["calls"] - before
    assert in_vain <= TO_OPEN + 1.5 * (time.monotonic() - began), "some one call a second, whoever waits"
    assert states(db) == {"running": CHANGES}
    simulator.heal()
    assert {handle.wait(120) for handle in handles} == {"completed"}
    attempts = sum(handle.record().steps["call_calcom"].attempts for handle in handles)
    assert CHANGES <= attempts <= CHANGES + in_vain
    for one, operation in asked:
        assert_in_step(app_engine, simulator, operation, one.id, change(one, operation))


def states(db) -> dict[str, int]:
    db.rollback()
    return {row.state: row.n for row in db.execute(text("SELECT state, count(*) AS n FROM sagas GROUP BY state"))}


def waiting(db) -> int:
    db.rollback()
    return db.execute(text("SELECT count(*) FROM sagas WHERE stage = 1")).scalar_one()
