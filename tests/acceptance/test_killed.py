"""The creation saga when whole workers are killed with SIGKILL at every named point, and a caller that runs it itself.

Processes of a pool that are killed, whose messages are given out again, are in `kit/test_creation.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, SagaHandle
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.saga.faultpoints import Point
from sagajobs.testing.death import UNDO_POINTS
from sagajobs.testing.fleet import fleet
from tests.support.doomed import Doomed

STEPS = [step.name for step in AppointmentCreationSaga.definition.steps]


def _assert_each_once(simulator, db, ids: list[str]) -> None:
    """Assert that Cal.com's ledger and the table agree: one standing booking for each saga, under its own key."""
    booked = [booking["metadata"][METADATA_KEY] for booking in simulator.ledger()]
    assert sorted(booked) == sorted(f"{saga_id}/book_calcom" for saga_id in ids)
    rows = db.execute(text("SELECT saga_id, calcom_v2_booking_id FROM appointments ORDER BY saga_id")).all()
    assert len(rows) == len(ids)
    assert {row.calcom_v2_booking_id for row in rows} == {booking["uid"] for booking in simulator.standing()}


@pytest.mark.siege
def test_killed_at_every_point_of_every_step(workers, booking, simulator, db, app_engine, staff):
    with fleet(workers) as beat:
        doomed = Doomed(app_engine, beat, "worker")
        for step, point in itertools.product(STEPS, Point):
            doomed.start(partial(AppointmentCreationSaga.enqueue, booking()), step, point)
        doomed.assert_all("completed")
    _assert_each_once(simulator, db, doomed.ids)


@pytest.mark.siege
def test_killed_at_every_point_of_every_undo(workers, booking, simulator, db, app_engine, staff):
    """`assign_staff`, required for these, fails; killed while the booking and the appointment are undone."""
    with fleet(workers, REQUIRED_STEP_FAILS="1") as beat:
        doomed = Doomed(app_engine, beat, "worker")
        for step, point in itertools.product(["create_appointment", "book_calcom"], UNDO_POINTS):
            doomed.start(partial(AppointmentCreationSaga.enqueue, booking()), step, f"undo.{point}")
        doomed.assert_all("compensated")
    assert simulator.standing() == []
    assert len(simulator.ledger()) == len(doomed.ids)
    assert db.execute(text("SELECT count(*) FROM appointments WHERE deleted_at IS NULL")).scalar_one() == 0


@pytest.mark.parametrize("point", [Point.BEFORE_CLAIM, Point.AFTER_CLAIM, Point.AFTER_CALL, Point.AFTER_COMMIT])
def test_a_caller_that_runs_a_saga_itself_dies_and_the_workers_finish_it(
    worker, booking, simulator, db, app_engine, tmp_path, point
):
    """`run()` in a web process that is killed while it books."""
    (tmp_path / "request.json").write_text(json.dumps(booking(), default=str))
    script = Path(__file__).parent.parent / "support" / "dying_caller.py"
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "request.json"), point],
        env=os.environ | {"SAGAJOBS_STALL_AFTER": "30"},  # else a sweep may be faster than one who is slow, and lives
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -9, ended.stderr
    saga_id = db.execute(text("SELECT id FROM sagas")).scalar_one()
    handle = SagaHandle(str(saga_id))
    assert handle.wait(90) == "completed"
    _assert_each_once(simulator, db, [handle.id])
