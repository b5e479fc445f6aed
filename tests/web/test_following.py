"""From an act at Cal.com to our appointment: simulator, webhook over a socket, receiver, broker, worker, database."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga
from sagajobs.saga.states import UNFINISHED
from sagajobs.testing.waiting import wait_for
from tests.web.conftest import SECRET

GONE = ("cancelled", "rejected")


@pytest.fixture
def told(simulator, own):
    """Have Cal.com tell the receiver of everything."""
    simulator.subscribe(own.url, secret=SECRET)


@pytest.fixture
def at_rest(db):
    """Wait until no saga is under way."""

    def wait() -> None:
        def none_left() -> bool:
            states = db.execute(text("SELECT DISTINCT state FROM sagas")).scalars().all()
            return not set(UNFINISHED) & set(states)

        wait_for(none_left, 90)

    return wait


@pytest.fixture
def agreed(db, simulator):
    """Tell which appointments are not where their bookings are."""

    def differing() -> list:
        there = {booking["uid"]: booking for booking in simulator.ledger()}
        wrong = []
        for row in db.execute(text("SELECT * FROM appointments ORDER BY id")):
            booking = there[row.calcom_v2_booking_id]
            fits = (
                booking.get("rescheduledToUid") is None
                and (row.status == "cancelled") == (booking["status"] in GONE)
                and (booking["status"] in GONE or row.starts_at.timestamp() == _epoch(booking["start"]))
            )
            if not fits:
                wrong.append((row.id, row.status, booking["status"], booking.get("rescheduledToUid")))
        return wrong

    return differing


def _epoch(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def follows(db) -> int:
    return db.execute(text("SELECT count(*) FROM sagas WHERE name = 'appointment_follow'")).scalar_one()


def test_a_customer_cancels(worker, told, booking, simulator, db, at_rest):
    made = AppointmentCreationSaga.run(booking())
    simulator.host("cancel", made.calcom_v2_booking_id, reason="ill")
    wait_for(lambda: db.execute(text("SELECT status FROM appointments")).scalar_one() == "cancelled")
    at_rest()
    assert [delivery["answers"][0]["status"] for delivery in simulator.deliveries()] == [200, 200]


def test_a_customer_moves(worker, told, booking, simulator, db, at_rest, agreed):
    made = AppointmentCreationSaga.run(booking())
    moved = simulator.host("move", made.calcom_v2_booking_id, start=(made.starts_at + timedelta(hours=4)).isoformat())
    wait_for(lambda: db.execute(text("SELECT status FROM appointments")).scalar_one() == "rescheduled")
    at_rest()
    row = db.execute(text("SELECT * FROM appointments")).one()
    assert (row.calcom_v2_booking_id, row.starts_at) == (moved["uid"], made.starts_at + timedelta(hours=4))
    assert agreed() == []


def test_our_own_bookings_come_back_before_their_reply_and_start_nothing(worker, told, booking, simulator, db):
    for _ in range(3):
        AppointmentCreationSaga.run(booking())
    answers = [answer["status"] for delivery in simulator.deliveries() for answer in delivery["answers"]]
    assert answers == [200] * 3
    assert follows(db) == 0


def test_an_answer_that_is_lost_is_made_up_for_by_the_webhook(worker, told, booking, simulator, db):
    """The webhook comes before the answer would have: the probe finds the booking all the same."""
    simulator.fault("create", "http_500", "after", count=1)
    handle = AppointmentCreationSaga.enqueue(booking())
    assert handle.wait(90) == "completed"
    assert len(simulator.ledger()) == 1


def test_webhooks_with_every_bad_habit(worker, told, booking, simulator, db, at_rest, agreed):
    """Doubled, and held back until later ones have gone out: moved twice, and some cancelled in the end."""
    made = [AppointmentCreationSaga.run(booking()) for _ in range(5)]
    simulator.switch(webhooks_doubled=2, webhooks_reordered=3, lag_ms=150)
    live = {one.id: one.calcom_v2_booking_id for one in made}
    for hours in (3, 6):
        for one in made:
            start = (one.starts_at + timedelta(hours=hours)).isoformat()
            live[one.id] = simulator.host("move", live[one.id], start=start)["uid"]
    for one in made[::2]:
        simulator.host("cancel", live[one.id])
    simulator.switch(webhooks_reordered=0)
    wait_for(lambda: not agreed())
    at_rest()
    assert agreed() == []
    fates = [delivery["fate"] for delivery in simulator.deliveries()]
    assert set(fates) == {"sent"}
    assert max(len(delivery["answers"]) for delivery in simulator.deliveries()) == 2
    statuses = db.execute(text("SELECT status, count(*) FROM appointments GROUP BY 1")).all()
    assert dict(map(tuple, statuses)) == {"cancelled": 3, "rescheduled": 2}


def test_a_webhook_of_last_week_is_played_again(worker, told, booking, simulator, db, at_rest, agreed):
    made = AppointmentCreationSaga.run(booking())
    simulator.host("move", made.calcom_v2_booking_id, start=(made.starts_at + timedelta(hours=4)).isoformat())
    wait_for(lambda: not agreed())
    at_rest()
    before = db.execute(text("SELECT * FROM appointments")).one()
    for _ in range(2):
        for delivery in simulator.deliveries():
            assert simulator.repeat(delivery["id"])["answers"][-1]["status"] == 200
        at_rest()
    assert follows(db) == 2, "of the booking's beginning, whose uid is an old one by now, one finds nothing to do"
    assert db.execute(text("SELECT * FROM appointments")).one() == before
    assert agreed() == []
