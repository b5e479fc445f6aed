"""Changes that Cal.com takes five of a minute: the rest wait, at no cost in calls.

A module of its own: a worker with beat beside it would take up what is due here, and has no quota.
"""

from __future__ import annotations

import pytest
import redis
from sqlalchemy import text

from sagajobs import AppointmentSyncSaga
from sagajobs.root import servers
from sagajobs.saga.sweep import recover
from sagajobs.testing.broker import HandBroker
from tests.support import gated
from tests.support.syncing import due


@pytest.fixture
def few(monkeypatch, app_engine):
    """Five changes of each kind that sends mail, and a hundred calls; `more` makes it so many again."""
    _, shared = gated.gate(monkeypatch, AppointmentSyncSaga, per_minute=100)
    monkeypatch.setattr(app_engine, "publisher", HandBroker(app_engine))

    def more() -> None:
        with redis.Redis.from_url(servers().redis, socket_timeout=60) as client:
            client.delete(*client.scan_iter(f"{shared.prefix}:*"))

    return more


@pytest.mark.parametrize(
    "data", [{"location": {"type": "address", "place": "Here 1"}}, {"guests": ["g@secret.example"]}]
)
def test_who_would_read_in_vain_does_not_begin(planted, simulator, app_engine, db, few, data):
    """Cal.com takes five such changes a minute, and each begins with a read that counts with everybody's calls."""
    appointments = [planted() for _ in range(8)]
    before = simulator.counts()["calls"]
    handles = [AppointmentSyncSaga.enqueue(one.id, "update", data) for one in appointments]
    for _ in range(3):
        app_engine.publisher.drain()
        due(app_engine)
        recover(app_engine)
    assert simulator.counts()["calls"] - before == 5 * 2
    waiting = [handle for handle in handles if handle.status() != "completed"]
    assert len(waiting) == 3
    assert {handle.record().steps["call_calcom"].attempts for handle in waiting} == {0}
    query = "SELECT count(*) FROM saga_events WHERE step = 'call_calcom'"
    assert db.execute(text(query)).scalar_one() == 5 * 2, "began, and completed"
    few()
    due(app_engine)
    recover(app_engine)
    app_engine.publisher.drain()
    assert {handle.status() for handle in handles} == {"completed"}


def test_what_stays_here_waits_for_nobody(planted, app_engine, few):
    appointments = [planted() for _ in range(8)]
    handles = [AppointmentSyncSaga.enqueue(one.id, "update", {"notes": "tea"}) for one in appointments]
    app_engine.publisher.drain()
    assert {handle.status() for handle in handles} == {"completed"}
