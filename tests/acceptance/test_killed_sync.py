"""Sync, all four operations: killed with SIGKILL at every named point of every step, every message doubled or lost."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import text

from sagajobs import AppointmentSyncSaga, SagaHandle
from sagajobs.saga.faultpoints import Point
from tests.support.broker import HandBroker
from tests.support.fleet import Doomed, fleet
from tests.support.syncing import OPERATIONS, assert_in_step, change

STEPS = [step.name for step in AppointmentSyncSaga.definition.steps]


@pytest.fixture
def ready(planted, unbooked):
    """Make what an operation can be done to, and the data to do it with."""

    def make(operation: str):
        appointment = unbooked() if operation == "create" else planted()
        return appointment, change(appointment, operation)

    return make


EVERYWHERE = list(itertools.product(OPERATIONS, STEPS, Point))
WORTH_A_WORKER = [
    (operation, step, point)
    for operation, step, point in EVERYWHERE
    if step == "call_calcom" or point is Point.BEFORE_COMMIT
]
"""All points of the step after which the world may have changed and nothing here says so. Of the others one each, where
all is done but the commit: the rest of a worker's deaths are the engine's to survive, whatever the saga."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("whom", "places", "children"), [("child", EVERYWHERE, 6), ("worker", WORTH_A_WORKER, 1)])
def test_killed_at_every_point(workers, ready, simulator, app_engine, whom, places, children):
    changes = []
    with fleet(workers, concurrency=children) as beat:
        doomed = Doomed(app_engine, beat, whom)
        for operation, step, point in places:
            appointment, data = ready(operation)
            changes.append((operation, appointment.id, data))
            start = partial(AppointmentSyncSaga.enqueue, appointment.id, operation, data)
            doomed.start(start, step, point, operation)
        doomed.assert_all("completed")
    for operation, appointment_id, data in changes:
        assert_in_step(app_engine, simulator, operation, appointment_id, data)


# --- messages ---


@pytest.fixture
def broker(app_engine, monkeypatch) -> HandBroker:
    broker = HandBroker(app_engine)
    monkeypatch.setattr(app_engine, "publisher", broker)
    return broker


def _acts(simulator) -> int:
    return sum(len(booking["history"]) for booking in simulator.ledger())


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_message_doubled(ready, simulator, app_engine, db, broker, operation):
    """At once, late, when the saga is over, and given out again as redelivered: each finds nothing to do."""
    appointment, data = ready(operation)
    handle = AppointmentSyncSaga.enqueue(appointment.id, operation, data)
    delivered = []
    while broker.messages:
        delivered.append(broker.messages[0])
        broker.deliver(0)
        broker.messages.insert(0, delivered[-1])
        broker.deliver(0)
    assert [message.step for message in delivered] == STEPS
    assert handle.status() == "completed"
    before = (_acts(simulator), _events(db, handle))
    broker.messages = delivered + [replace(message, redelivered=True) for message in delivered]
    broker.drain()
    assert (_acts(simulator), _events(db, handle)) == before
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


def _events(db, handle: SagaHandle) -> int:
    db.rollback()
    return db.execute(text("SELECT count(*) FROM saga_events WHERE saga_id = :id"), {"id": handle.id}).scalar_one()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_message_lost(worker, ready, simulator, app_engine, monkeypatch, operation):
    """Nothing was ever sent: the sweep alone brings it home."""
    appointment, data = ready(operation)
    with monkeypatch.context() as patch:
        patch.setattr(app_engine, "publisher", HandBroker(app_engine))
        handle = AppointmentSyncSaga.enqueue(appointment.id, operation, data)
    assert handle.wait(30) == "completed"
    assert_in_step(app_engine, simulator, operation, appointment.id, data)


def test_a_storm_of_doubles_beside_the_work(worker, ready, simulator, app_engine):
    """Real messages, each step's many times and all at once, while two workers are at it."""
    started = []
    for operation in OPERATIONS * 3:
        appointment, data = ready(operation)
        started.append((operation, appointment, data, AppointmentSyncSaga.enqueue(appointment.id, operation, data)))
    for step in STEPS * 2:
        for *_, handle in started:
            app_engine.publisher.steps(AppointmentSyncSaga, handle.id, [step])
    assert {handle.wait(60) for *_, handle in started} == {"completed"}
    for operation, appointment, data, _ in started:
        assert_in_step(app_engine, simulator, operation, appointment.id, data)
