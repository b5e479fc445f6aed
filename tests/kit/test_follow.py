"""The saga that follows what was done at Cal.com, under the checks that deliver by hand: each is followed once.

Its real deaths are in `acceptance/test_killed_follow.py`, where caches and the other side are looked at as well.
"""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs import AppointmentFollowSaga, testing
from tests.support.syncing import LATER

TOLD = {"cancel": "BOOKING_CANCELLED", "move": "BOOKING_RESCHEDULED", "look": None}
FOLLOWED = text("SELECT id FROM audit_log WHERE saga_id = CAST(:id AS uuid) AND action = 'appointment.followed'")
BY_HAND = [check for check in testing.CHECKS if check is not testing.dies_at_every_point]


@pytest.fixture(params=TOLD)
def case(request, saga_case, planted, simulator, app_engine, hold_invariants):
    def hint(_n: int) -> dict:
        appointment = planted()
        uid = appointment.calcom_v2_booking_id
        if request.param == "move":
            uid = simulator.host("move", uid, start=(appointment.starts_at + LATER).isoformat())["uid"]
        else:
            simulator.host("cancel", uid)
        return {"appointment_id": appointment.id, "booking_uid": uid, "trigger": TOLD[request.param], "seen": "x"}

    def followed(saga_id: str) -> list[str]:
        with app_engine.database.reading() as connection:
            return list(connection.execute(FOLLOWED, {"id": saga_id}).scalars())

    return saga_case(AppointmentFollowSaga, request=hint, standing=followed, invariants=hold_invariants)


@pytest.mark.parametrize("check", BY_HAND, ids=testing.name)
def test_follow(case, check):
    check(case)
