"""While Cal.com is left alone, sagas wait at no cost in attempts, and web requests do not wait at all."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga
from sagajobs.calcom.circuit import CircuitState
from sagajobs.calcom.errors import CalcomCircuitOpen
from sagajobs.calcom.operations import ME
from sagajobs.root import calcom, circuit, quota
from sagajobs.testing.waiting import wait_for
from tests.support.circuits import let_trial_come
from tests.support.syncing import due


@pytest.fixture
def left_alone(simulator):
    """Cal.com's circuit is half open, with a trial under way whose outcome the test tells."""
    while circuit().state() is CircuitState.CLOSED:
        circuit().failed(None)
    let_trial_come(circuit())
    trial = circuit().admit(ME)
    assert trial is not None
    trial.extend(600, replace_ttl=True)  # else it is lost, and another call the trial, if the machine stands still
    return trial


def put_off(db, handle) -> bool:
    db.rollback()  # a look at what is there now
    query = "SELECT due_at FROM saga_steps WHERE saga_id = :id AND name = 'book_calcom'"
    return db.execute(text(query), {"id": handle.id}).scalar_one() is not None


def history(db, handle) -> list[str]:
    query = "SELECT event FROM saga_events WHERE saga_id = :id AND step = 'book_calcom' ORDER BY id"
    return list(db.execute(text(query), {"id": handle.id}).scalars())


def test_a_saga_waits_for_the_circuit_at_no_cost(worker, booking, simulator, app_engine, db, left_alone):
    handle = AppointmentCreationSaga.enqueue(booking())
    wait_for(lambda: put_off(db, handle))
    assert handle.record().steps["book_calcom"].attempts == 0
    assert history(db, handle) == []
    assert simulator.ledger() == []

    circuit().succeeded(left_alone)
    due(app_engine)

    assert handle.wait(90) == "completed"
    assert handle.record().steps["book_calcom"].attempts == 1
    assert len(simulator.ledger()) == 1


def test_the_application_s_clients_share_one_circuit(simulator, left_alone):
    from sagajobs.root import _quick_calcom

    for client in (calcom(), _quick_calcom()):
        with pytest.raises(CalcomCircuitOpen):
            client.me()
    circuit().succeeded(left_alone)
    assert calcom().me().id == _quick_calcom().me().id == 1


def test_no_quota_is_kept_where_none_is_set():
    assert quota() is None
