"""Following a booking that was cancelled, or moved: killed with SIGKILL at every named point of every step."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial

import pytest
from sqlalchemy import text

from sagajobs import AppointmentFollowSaga
from sagajobs.booking.cache import AppointmentCache
from sagajobs.saga.faultpoints import Point
from sagajobs.testing.fleet import fleet
from tests.support.doomed import Doomed
from tests.support.syncing import LATER, row

STEPS = [step.name for step in AppointmentFollowSaga.definition.steps]
TOLD = {"cancel": "BOOKING_CANCELLED", "move": "BOOKING_RESCHEDULED"}


@pytest.fixture
def done_there(planted, simulator):
    """Have a host do something to a booking that web applications have read of; return what is then to be seen here."""
    cache: AppointmentCache = AppointmentFollowSaga.services.cache

    def act(what: str):
        appointment = planted()
        assert cache.get(appointment.id).status == "scheduled"
        uid, start = appointment.calcom_v2_booking_id, appointment.starts_at
        if what == "cancel":
            simulator.host("cancel", uid)
            return appointment.id, ("cancelled", uid, start)
        start += LATER
        return appointment.id, ("rescheduled", simulator.host("move", uid, start=start.isoformat())["uid"], start)

    return act


def _hint(appointment_id: int, uid: str, what: str, step: str) -> dict:
    """Return a webhook's hint or, for the step that looks when no webhook has said what there is to see, another's."""
    trigger = None if step == "read_booking" else TOLD[what]
    return {"appointment_id": appointment_id, "booking_uid": uid, "trigger": trigger, "seen": "x"}


@pytest.mark.siege
def test_killed_at_every_point(workers, done_there, simulator, app_engine, db):
    there = {}
    with fleet(workers, concurrency=6) as beat:
        doomed = Doomed(app_engine, beat, "child")
        for what, step, point in itertools.product(TOLD, STEPS, Point):
            appointment_id, seen = done_there(what)
            there[appointment_id] = seen
            start = partial(AppointmentFollowSaga.enqueue, _hint(appointment_id, seen[1], what, step))
            doomed.start(start, step, point, what)
        before = simulator.ledger()
        doomed.assert_all("completed")
    assert simulator.ledger() == before, "it only looks"
    for appointment_id, seen in there.items():
        here = row(app_engine, appointment_id)
        assert (here.status, here.calcom_v2_booking_id, here.starts_at) == seen
        assert here.calcom_sync_status == ("cancelled" if here.status == "cancelled" else "synced")
        assert AppointmentFollowSaga.services.cache.get(appointment_id).status == here.status
    written = Counter(db.execute(text("SELECT saga_id::text FROM audit_log")).scalars())
    assert written == Counter(doomed.ids), "each followed once"
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0
