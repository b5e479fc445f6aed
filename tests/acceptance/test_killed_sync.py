"""Sync, all four operations: killed with SIGKILL at every named point of every step, every message doubled or lost."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs import AppointmentSyncSaga, SagaHandle
from sagajobs.saga.faultpoints import Point
from tests.acceptance.test_killed import _keep_alive
from tests.support.broker import HandBroker
from tests.support.fixtures import plan_death
from tests.support.syncing import OPERATIONS, assert_in_step, change

STEPS = [step.name for step in AppointmentSyncSaga.definition.steps]


@pytest.fixture
def ready(planted, unbooked):
    """Make what an operation can be done to, and the data to do it with."""

    def make(operation: str):
        appointment = unbooked() if operation == "create" else planted()
        return appointment, change(appointment, operation)

    return make


def _enqueue_to_die(app_engine, folder, appointment, operation, data, step, point, whom):
    with Session(app_engine.database.engine) as session, session.begin():
        handle = AppointmentSyncSaga.enqueue(appointment.id, operation, data, session=session)
        return handle, plan_death(folder, handle.id, step, point, whom)


EVERYWHERE = list(itertools.product(OPERATIONS, STEPS, Point))
IN_DOUBT = list(itertools.product(OPERATIONS, ["call_calcom"], [Point.AFTER_CLAIM, Point.AFTER_CALL]))
"""Where the world may have changed and nothing here says so. The rest of a worker's deaths are the engine's to survive,
whatever the saga (`test_killed.py`)."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("whom", "places", "children"), [("child", EVERYWHERE, 6), ("worker", IN_DOUBT, 1)])
def test_killed_at_every_point(workers, ready, simulator, app_engine, whom, places, children):
    over = threading.Event()
    beat = workers(concurrency=0)
    keeper = _keep_alive(lambda **_: workers(concurrency=children), 2, over)
    started = []
    try:
        for operation, step, point in places:
            appointment, data = ready(operation)
            handle, hit = _enqueue_to_die(app_engine, beat.folder, appointment, operation, data, step, point, whom)
            started.append(((operation, step, point), appointment, data, handle, hit))
        ends = {where: handle.wait(200) for where, _, _, handle, _ in started}
    finally:
        over.set()
        keeper.join()
    assert {where for where, *_, hit in started if not hit.exists()} == set(), "each aimed at was hit"
    assert {where: end for where, end in ends.items() if end != "completed"} == {}
    for (operation, _, _), appointment, data, _, _ in started:
        assert_in_step(app_engine, simulator, operation, appointment.id, data)


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
