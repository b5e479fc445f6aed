"""Sync, all four operations: whole workers killed with SIGKILL, and a storm of doubled messages beside the work.

Processes of a pool that are killed, and messages that are doubled or lost one by one, are in `kit/test_sync.py`.
"""

from __future__ import annotations

import itertools
from functools import partial

import pytest

from sagajobs import AppointmentSyncSaga
from sagajobs.saga.faultpoints import Point
from sagajobs.testing.fleet import fleet
from tests.support.doomed import Doomed
from tests.support.syncing import OPERATIONS, assert_in_step, change

STEPS = [step.name for step in AppointmentSyncSaga.definition.steps]


@pytest.fixture
def ready(planted, unbooked):
    """Make what an operation can be done to, and the data to do it with."""

    def make(operation: str):
        appointment = unbooked() if operation == "create" else planted()
        return appointment, change(appointment, operation)

    return make


WORTH_A_WORKER = [
    (operation, step, point)
    for operation, step, point in itertools.product(OPERATIONS, STEPS, Point)
    if step == "call_calcom" or point is Point.BEFORE_COMMIT
]
"""All points of the step after which the world may have changed and nothing here says so. Of the others one each, where
all is done but the commit: the rest of a worker's deaths are the engine's to survive, whatever the saga."""


@pytest.mark.siege
def test_workers_killed(workers, ready, simulator, app_engine):
    changes = []
    with fleet(workers) as beat:
        doomed = Doomed(app_engine, beat, "worker")
        for operation, step, point in WORTH_A_WORKER:
            appointment, data = ready(operation)
            changes.append((operation, appointment.id, data))
            start = partial(AppointmentSyncSaga.enqueue, appointment.id, operation, data)
            doomed.start(start, step, point, operation)
        doomed.assert_all("completed")
    for operation, appointment_id, data in changes:
        assert_in_step(app_engine, simulator, operation, appointment_id, data)


@pytest.mark.siege
def test_a_storm_of_doubles_beside_the_work(worker, ready, simulator, app_engine):
    """Real messages, each step's many times and all at once, while two workers are at it."""
    started = []
    for operation in OPERATIONS * 3:
        appointment, data = ready(operation)
        started.append((operation, appointment, data, AppointmentSyncSaga.enqueue(appointment.id, operation, data)))
    for step in STEPS * 2:
        for *_, handle in started:
            app_engine.publisher.steps(AppointmentSyncSaga, handle.id, [step])
    assert {handle.wait(90) for *_, handle in started} == {"completed"}
    for operation, appointment, data, _ in started:
        assert_in_step(app_engine, simulator, operation, appointment.id, data)
