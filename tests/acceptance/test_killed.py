"""The worker is killed with SIGKILL at every named point of every step of the creation saga: each ends as it should.

Once a child of the pool, whose parent survives and gives the message out again; once the whole worker, whose messages
nobody gives out again before the visibility time-out, so that the table and the sweep alone bring the saga home.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs import AppointmentCreationSaga, SagaHandle
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.saga.faultpoints import Point
from tests.support.fixtures import plan_death

STEPS = [step.name for step in AppointmentCreationSaga.definition.steps]
POINTS = list(Point)


def _enqueue_to_die(app_engine, folder, request, step: str, point: str, whom: str):
    """Start a saga whose worker is to die; the plan lies ready before anybody can take the message."""
    with Session(app_engine.database.engine) as session, session.begin():
        handle = AppointmentCreationSaga.enqueue(request, session=session)
        hit = plan_death(folder, handle.id, step, point, whom)
    return handle, hit


def _keep_alive(start, number: int, over: threading.Event) -> threading.Thread:
    """Start a new worker whenever one is killed, as a process manager would."""
    living = [start(concurrency=1) for _ in range(number)]

    def watch() -> None:
        while not over.wait(0.05):
            for n, worker in enumerate(living):
                if not worker.alive:
                    living[n] = start(concurrency=1)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def _assert_each_once(simulator, db, handles) -> None:
    """Assert that Cal.com's ledger and the table agree: one standing booking for each saga, under its own key."""
    booked = [booking["metadata"][METADATA_KEY] for booking in simulator.ledger()]
    assert sorted(booked) == sorted(f"{handle.id}/book_calcom" for handle in handles)
    rows = db.execute(text("SELECT saga_id, calcom_v2_booking_id FROM appointments ORDER BY saga_id")).all()
    assert len(rows) == len(handles)
    assert {row.calcom_v2_booking_id for row in rows} == {booking["uid"] for booking in simulator.standing()}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("whom", ["child", "worker"])
def test_killed_at_every_point_of_every_step(workers, booking, simulator, db, app_engine, staff, tmp_path, whom):
    over = threading.Event()
    beat = workers(concurrency=0)
    keeper = _keep_alive(workers, 2, over)
    try:
        started = {
            (step, point): _enqueue_to_die(app_engine, beat.folder, booking(), step, point, whom)
            for step, point in itertools.product(STEPS, POINTS)
        }
        ends = {where: handle.wait(200) for where, (handle, _) in started.items()}
    finally:
        over.set()
        keeper.join()
    assert {where for where, (_, hit) in started.items() if not hit.exists()} == set(), "each aimed at was hit"
    assert {where: end for where, end in ends.items() if end != "completed"} == {}
    _assert_each_once(simulator, db, [handle for handle, _ in started.values()])


UNDO_POINTS = [Point.BEFORE_CLAIM, Point.AFTER_CLAIM, Point.AFTER_CALL, Point.BEFORE_COMMIT, Point.AFTER_COMMIT]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("whom", ["child", "worker"])
def test_killed_at_every_point_of_every_undo(workers, booking, simulator, db, app_engine, staff, whom):
    """`assign_staff`, required for these, fails; killed while the booking and the appointment are undone."""
    over = threading.Event()
    beat = workers(concurrency=0)
    keeper = _keep_alive(lambda **options: workers(REQUIRED_STEP_FAILS="1", **options), 2, over)
    try:
        started = {
            (step, point): _enqueue_to_die(app_engine, beat.folder, booking(), f"{step}", f"undo.{point}", whom)
            for step, point in itertools.product(["create_appointment", "book_calcom"], UNDO_POINTS)
        }
        ends = {where: handle.wait(200) for where, (handle, _) in started.items()}
    finally:
        over.set()
        keeper.join()
    assert {where for where, (_, hit) in started.items() if not hit.exists()} == set(), "each aimed at was hit"
    assert {where: end for where, end in ends.items() if end != "compensated"} == {}
    assert simulator.standing() == []
    assert len(simulator.ledger()) == len(started)
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
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -9, ended.stderr
    saga_id = db.execute(text("SELECT id FROM sagas")).scalar_one()
    handle = SagaHandle(str(saga_id))
    assert handle.wait(60) == "completed"
    _assert_each_once(simulator, db, [handle])
