"""Makes the recordings, for `python -m tests.recorded`: with the fixtures of the tests, which do not collect it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sagajobs import (
    AppointmentCreationSaga,
    AppointmentFollowSaga,
    AppointmentSyncSaga,
    CompositeBookingSaga,
)
from sagajobs.saga import Saga, faultpoints
from sagajobs.testing.trial import TELLING, Trial
from tests.recorded.history import History, path
from tests.recorded.snapshot import take
from tests.support.syncing import change

FAR = datetime(2199, 6, 3, 8, tzinfo=UTC)
"""A start that lies ahead for as long as a recording can be of use."""

STORIES: dict[str, tuple[type[Saga], str, str]] = {
    "creation": (AppointmentCreationSaga, "", ""),
    "creation-undone": (AppointmentCreationSaga, "", "book_calcom"),
    "sync-create": (AppointmentSyncSaga, "create", ""),
    "sync-update": (AppointmentSyncSaga, "update", ""),
    "sync-cancel": (AppointmentSyncSaga, "cancel", ""),
    "sync-reschedule": (AppointmentSyncSaga, "reschedule", ""),
    "sync-undone": (AppointmentSyncSaga, "reschedule", "lock_appointment"),
    "composite": (CompositeBookingSaga, "", ""),
    "composite-undone": (CompositeBookingSaga, "", "book_segment[1]"),
    "follow-cancel": (AppointmentFollowSaga, "cancel", ""),
    "follow-move": (AppointmentFollowSaga, "move", ""),
}
"""What is recorded: a saga, what it is to do, and the step after which it is cancelled, if it is."""


@pytest.fixture
def wanted(booking, staff, planted, unbooked, simulator):
    """Make what a saga is asked to do."""

    def slot(n: int) -> dict[str, Any]:
        return {"event_type_id": n + 1, "start": FAR + timedelta(hours=n), "duration_minutes": 30}

    def make(kind: type[Saga], act: str) -> dict[str, Any]:
        if kind is AppointmentCreationSaga:
            return booking(start=FAR)
        if kind is CompositeBookingSaga:
            return {"customer": booking()["customer"], "segments": [slot(n) for n in range(2)]}
        appointment = unbooked(start=FAR) if act == "create" else planted(start=FAR)
        if kind is AppointmentSyncSaga:
            return {"appointment_id": appointment.id, "operation": act, "data": change(appointment, act)}
        uid = appointment.calcom_v2_booking_id
        if act == "move":
            uid = simulator.host("move", uid, start=(FAR + timedelta(days=7)).isoformat())["uid"]
            return {"appointment_id": appointment.id, "booking_uid": uid, "trigger": "BOOKING_RESCHEDULED", "seen": "x"}
        simulator.host("cancel", uid)
        return {"appointment_id": appointment.id, "booking_uid": uid, "trigger": "BOOKING_CANCELLED", "seen": "x"}

    return make


@pytest.mark.parametrize("name", STORIES)
def test_record(app_engine, simulator, saga_clock, wanted, name):
    kind, act, turns = STORIES[name]
    if path(name, kind.version).exists() and name not in os.environ["ANEW"].split():
        pytest.skip(f"{name} of version {kind.version} is recorded: name it to have it made anew")
    trial = Trial(app_engine, saga_clock, kind)
    with trial.installed():
        trial.start(wanted(kind, act))
        history = History(trial.handle.id, kind.name, kind.version)
        if turns:
            trial.turn_round_after(turns)

        def see(point: faultpoints.Point, _saga_id: str, step: str) -> None:
            if point in TELLING:
                history.add(f"{point} of {step}", take(app_engine, simulator))

        history.add("recorded", take(app_engine, simulator))
        faultpoints.install(see)
        trial.settle()
        history.add("at rest", take(app_engine, simulator))
    assert history.state() == ("compensated" if turns else "completed")
    history.write(name)
