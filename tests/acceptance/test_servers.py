"""Servers that go away in the middle, and beats that are one too many."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, SagaHandle
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.root import settings
from sagajobs.saga.sweep import recover
from sagajobs.testing.fleet import fleet
from sagajobs.testing.waiting import wait_for
from tests.support.patience import patiently


def _embedded(component: str) -> int:
    """Return the process id of an embedded server."""
    if getattr(settings(), "database_url" if component == "postgres" else "broker_url"):
        pytest.skip("stops a server of its own only")
    return json.loads((Path(settings().home) / component / "server.json").read_text())["pid"]


def _each_once(simulator, handles) -> bool:
    keys = sorted(booking["metadata"][METADATA_KEY] for booking in simulator.ledger())
    return keys == sorted(f"{handle.id}/book_calcom" for handle in handles)


@pytest.mark.parametrize(
    "how",
    [pytest.param(signal.SIGINT, id="restarted", marks=pytest.mark.siege), pytest.param(signal.SIGKILL, id="killed")],
)
def test_the_database_goes_away_in_the_middle(worker, booking, simulator, app_engine, how):
    """Its keeper starts it again at once; whatever was open is rolled back, and the sweep brings the hints back."""
    server = _embedded("postgres")
    handles = [AppointmentCreationSaga.enqueue(booking()) for _ in range(10)]
    os.kill(server, how)
    handles += [patiently(lambda: AppointmentCreationSaga.enqueue(booking())) for _ in range(10)]
    ends = [patiently(lambda handle=handle: handle.wait(90)) for handle in handles]
    assert ends == ["completed"] * 20
    started = patiently(lambda: _all_sagas(app_engine))
    assert _each_once(simulator, started)


def _all_sagas(app_engine):
    """Return all sagas: a start whose commit was not answered may be there too, and must have ended as well."""
    with app_engine.database.reading() as connection:
        handles = [SagaHandle(str(row.id)) for row in connection.execute(text("SELECT id FROM sagas"))]
    assert {handle.wait(90) for handle in handles} == {"completed"}
    return handles


@pytest.mark.parametrize(
    "how",
    [pytest.param(signal.SIGTERM, id="restarted", marks=pytest.mark.siege), pytest.param(signal.SIGKILL, id="killed")],
)
def test_the_broker_goes_away_in_the_middle(workers, booking, simulator, how):
    """Celery gets over it, or ends as of an "unrecoverable error" while it acknowledges, and is started again."""
    server = _embedded("redis")
    with fleet(workers, 1, concurrency=2):
        handles = [AppointmentCreationSaga.enqueue(booking()) for _ in range(10)]
        os.kill(server, how)
        handles += [AppointmentCreationSaga.enqueue(booking()) for _ in range(10)]
        assert [handle.wait(90) for handle in handles] == ["completed"] * 20
    assert _each_once(simulator, handles)


def test_two_beats_are_harmless(workers, booking, simulator):
    workers(concurrency=0)
    workers(concurrency=0)
    simulator.fault("create", "http_500", "after", probability=0.3, seed=7)
    workers()
    handles = [AppointmentCreationSaga.enqueue(booking()) for _ in range(30)]
    assert [handle.wait(90) for handle in handles] == ["completed"] * 30
    assert _each_once(simulator, handles)


def test_no_beat_at_all_and_a_sweep_by_hand(workers, booking, simulator, app_engine):
    """Without beat, what needs the sweep waits for somebody to sweep (`sagajobs sweep`)."""
    workers()
    simulator.fault("create", "http_500", "after", count=1)
    handle = AppointmentCreationSaga.enqueue(booking())
    wait_for(lambda: handle.record().steps["book_calcom"].state == "unknown")
    assert handle.status() == "running"

    def swept_home() -> bool:
        recover(app_engine)
        return handle.status() == "completed"

    wait_for(swept_home)
    assert _each_once(simulator, [handle])
