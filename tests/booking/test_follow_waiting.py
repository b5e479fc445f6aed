"""`AppointmentFollowSaga` while Cal.com cannot be asked: it costs nothing, and keeps nobody from the appointment."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs import AppointmentFollowSaga, AppointmentSyncSaga
from sagajobs.calcom.operations import GET_BOOKING
from sagajobs.calcom.priority import Priority
from sagajobs.root import circuit
from tests.support import gated
from tests.support.sagas import record
from tests.support.syncing import due, sync

pytestmark = pytest.mark.usefixtures("impatient_follow")

LOOKING = {"see_change": "BOOKING_CANCELLED", "read_booking": None}
"""The steps that look, and the webhook after which each is the one that does."""


@pytest.fixture
def hinted(unstaffed, simulator):
    """A booking that its host has cancelled, and the saga that is to follow; which has not begun."""

    def make(step: str, *, cancelled: bool = True):
        made = unstaffed()
        if cancelled:
            simulator.host("cancel", made.calcom_v2_booking_id)
        hint = {"appointment_id": made.id, "booking_uid": made.calcom_v2_booking_id, "seen": "x"}
        return made, record(AppointmentFollowSaga, hint | {"trigger": LOOKING[step]})

    return make


@pytest.fixture
def drive(app_engine):
    def drive(handle, patience: float = 0.0) -> str:
        due(app_engine)
        app_engine.drive(AppointmentFollowSaga, handle.id, patience=patience)
        return handle.status()

    return drive


def assert_waits(db, handle, step: str) -> None:
    """Assert that it has not begun to look, says nothing of it, and keeps nobody from the appointment."""
    db.rollback()
    assert handle.record().steps[step].attempts == 0
    said = db.execute(text("SELECT count(*) FROM saga_events WHERE step = :step"), {"step": step}).scalar_one()
    assert said == 0
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0


@pytest.mark.parametrize("step", LOOKING)
def test_while_cal_com_is_left_alone_no_attempt_is_spent(hinted, simulator, drive, db, row, step):
    _, handle = hinted(step)
    simulator.fault("any", "http_503", count=1000)
    while circuit().hold(GET_BOOKING) == 0:
        circuit().failed(None)
    for _ in range(8):
        assert drive(handle) == "running"
    assert_waits(db, handle, step)
    simulator.heal()
    circuit().close()
    assert drive(handle, patience=10) == "completed"
    assert (row().status, handle.record().steps[step].attempts) == ("cancelled", 1)


@pytest.mark.parametrize("step", LOOKING)
def test_while_the_quota_is_spent_no_attempt_is(hinted, simulator, drive, db, row, monkeypatch, step):
    _, handle = hinted(step)
    gated.gate(monkeypatch, AppointmentFollowSaga, per_minute=10)
    client = AppointmentFollowSaga.services.calcom.at(Priority.FAR)
    while client.turn(GET_BOOKING) == 0:
        client.me()
    before = simulator.counts()["calls"]
    assert drive(handle) == "running"
    assert_waits(db, handle, step)
    assert simulator.counts()["calls"] == before
    gated.gate(monkeypatch, AppointmentFollowSaga, per_minute=10)
    assert drive(handle, patience=10) == "completed"
    assert (row().status, handle.record().steps[step].attempts) == ("cancelled", 1)


def test_cal_com_says_that_the_quota_is_spent_and_no_attempt_is(hinted, simulator, drive, db, row):
    _, handle = hinted("read_booking")
    simulator.fault("get", "rate_limit", count=8)
    for _ in range(8):
        assert drive(handle) == "running"
    assert handle.record().steps["read_booking"].attempts == 0
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0
    assert drive(handle, patience=10) == "completed"
    assert row().status == "cancelled"


def test_a_customer_s_own_change_does_not_wait_for_a_look_to_come_true(hinted, simulator, drive, db, row):
    """A cancel was told that no look shows; the customer moves the appointment between two of them."""
    made, handle = hinted("see_change", cancelled=False)
    assert drive(handle) == "running"
    assert handle.record().steps["see_change"].attempts == 1
    start = made.starts_at.replace(hour=made.starts_at.hour + 5)
    assert sync(made, "reschedule", {"start": start}, patience=0.0)["success"]
    assert drive(handle, patience=10) == "completed"
    assert handle.result() == {"changed": False}
    assert (row().status, row().starts_at) == ("rescheduled", start)
    assert AppointmentSyncSaga.services.calcom.get_booking(row().calcom_v2_booking_id).start == start
