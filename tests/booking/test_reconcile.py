"""Reconciling with Cal.com: what was done behind our back is found, what we are at ourselves is left alone."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga
from sagajobs.booking.direct import book_directly
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.booking.reconcile import AHEAD, BEHIND, WINDOW, Reconciliation, Window, reconciling
from sagajobs.calcom.errors import BadCredentials, CalcomUnavailable
from sagajobs.errors import StepError, TransientError
from sagajobs.root import calcom
from sagajobs.saga.sweeps import Sweep, run
from tests.support.following import hints, said
from tests.support.tables import change

NOW = datetime(2040, 5, 1, 12, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("nobody_at_work", "simulator")


@pytest.fixture
def booked(booked_long_ago):
    return booked_long_ago


def test_where_both_sides_agree_there_is_nothing_to_say(booked, reconcile, app_engine, db, simulator, caplog):
    made = booked()
    booked()
    calls = simulator.counts()["calls"]
    assert reconcile(made) == 0
    assert simulator.counts()["calls"] == calls + 1, "one list, and no look at single bookings"
    assert hints(app_engine, db) == []
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("act", "seen", "done"), [("cancel", "cancelled", "cancelled"), ("move", "moved", "rescheduled")]
)
def test_what_a_host_did_behind_our_back_is_followed_once(
    booked, reconcile, app_engine, db, simulator, act, seen, done
):
    made = booked()
    more = {"start": (made.starts_at + timedelta(days=3)).isoformat()} if act == "move" else {}
    simulator.host(act, made.calcom_v2_booking_id, **more)
    assert reconcile(made, minutes=0) == 0, "just now: webhooks are on their way"
    assert reconcile(made) == 1
    assert reconcile(made) == 0, "the saga is on its way"
    told = hints(app_engine, db)
    assert told == [
        {"appointment_id": made.id, "booking_uid": made.calcom_v2_booking_id, "seen": seen, "trigger": None}
    ]
    assert db.execute(text("SELECT status FROM appointments")).scalar_one() == done
    assert reconcile(made) == 0


def test_a_saga_that_gave_up_on_following_is_started_again(booked, reconcile, app_engine, db, simulator):
    made = booked()
    simulator.host("cancel", made.calcom_v2_booking_id)
    for _ in range(2):
        assert reconcile(made) == 1
        change(
            app_engine,
            "UPDATE sagas SET state = 'compensating' WHERE name = 'appointment_follow' AND state = 'pending';"
            "UPDATE sagas SET state = 'compensated', next_at = NULL, ended_at = saga_now() "
            "WHERE state = 'compensating'",
        )
    assert reconcile(made) == 1
    assert len(hints(app_engine, db)) == 3
    assert db.execute(text("SELECT status FROM appointments")).scalar_one() == "cancelled"


@pytest.mark.parametrize(("act", "seen"), [("confirm", "confirmed"), ("decline", "rejected")])
def test_what_a_host_said_to_a_booking_that_waits_for_him_is_followed(
    booked, reconcile, app_engine, db, simulator, act, seen
):
    made = booked(event_type_id=7)
    assert made.status == "pending"
    assert reconcile(made) == 0
    simulator.host(act, made.calcom_v2_booking_id)
    assert reconcile(made) == 1
    assert [hint["seen"] for hint in hints(app_engine, db)] == [seen]


def test_a_booking_of_an_appointment_that_was_cancelled_here_is_an_orphan(
    booked, reconcile, app_engine, simulator, caplog
):
    made = booked()
    change(app_engine, "UPDATE appointments SET status = 'cancelled', calcom_sync_status = 'cancelled'")
    assert reconcile(made) == 1
    assert said(caplog) == ["reconcile_orphan"]
    assert len(simulator.standing()) == 1


def test_a_moved_booking_met_under_its_new_time_is_no_orphan(booked, reconcile, app_engine, db, simulator, caplog):
    made = booked()
    uid, start = made.calcom_v2_booking_id, made.starts_at
    for days in (5, 6):
        start += timedelta(days=days)
        uid = simulator.host("move", uid, start=start.isoformat())["uid"]
    first = start - timedelta(hours=1)
    window = Window(first, first + WINDOW, datetime.now(UTC) + timedelta(minutes=2))
    assert Reconciliation(app_engine, calcom(), window).run() == 1
    assert hints(app_engine, db)[0]["booking_uid"] == made.calcom_v2_booking_id
    assert said(caplog) == []


def orphaned(app_engine, made) -> None:
    """Our side forgets: the appointment is as if it had never been booked."""
    change(
        app_engine,
        "UPDATE appointments SET calcom_v2_booking_id = NULL, status = 'pending', calcom_sync_status = 'pending' "
        "WHERE id = :id",
        id=made.id,
    )


def test_a_booking_under_our_key_that_no_appointment_has_is_said_once_a_day(
    booked, reconcile, app_engine, db, caplog, simulator
):
    made = booked()
    orphaned(app_engine, made)
    with caplog.at_level(logging.CRITICAL, "saga"):
        assert reconcile(made) == 1
        assert reconcile(made) == 0
        change(app_engine, "UPDATE audit_log SET at = at - interval '25 h'")
        assert reconcile(made) == 1
    assert said(caplog) == ["reconcile_orphan"] * 2
    assert f"booking number {simulator.standing()[0]['id']}" in caplog.text
    assert made.calcom_v2_booking_id not in caplog.text, "whoever knows it can cancel the booking"
    assert "secret.example" not in caplog.text
    assert len(simulator.standing()) == 1, "never cancelled by itself"
    audit = db.execute(text("SELECT entity, detail FROM audit_log WHERE action = 'reconcile.orphan'")).all()
    known = {"uid": made.calcom_v2_booking_id, "starts_at": made.starts_at.isoformat()}
    assert [tuple(row) for row in audit] == [("calcom_booking", known)] * 2


def test_a_booking_whose_saga_was_purged_is_no_orphan_while_an_appointment_has_it(
    booked, reconcile, app_engine, caplog
):
    made = booked()
    change(app_engine, "DELETE FROM sagas")
    assert reconcile(made) == 0
    orphaned(app_engine, made)
    assert reconcile(made) == 1
    assert said(caplog) == ["reconcile_orphan"]


def test_a_booking_that_was_made_without_a_saga_and_whose_answer_was_lost_is_an_orphan(
    booking, reconcile, app_engine, simulator, caplog
):
    """The switch is off, so that nobody looks for it; a person must hear of it all the same."""
    services = AppointmentCreationSaga.services
    answered = book_directly(app_engine.database, services, booking())
    simulator.fault("create", "http_500", "after", count=1)
    with pytest.raises(StepError):
        book_directly(app_engine.database, services, booking(start=answered.starts_at, event_type_id=2))
    change(app_engine, "UPDATE appointments SET updated_at = updated_at - interval '1 h'")
    with caplog.at_level(logging.CRITICAL, "saga"):
        assert reconcile(answered) == 1
        assert reconcile(answered) == 0
    assert said(caplog) == ["reconcile_orphan"]
    assert f"made without a saga for appointment {answered.id + 1}" in caplog.text
    assert len(simulator.standing()) == 2


@pytest.mark.parametrize("key", ["direct/", "direct/x", "direct/²", "another's", "another's/1", "1/"])
def test_a_booking_under_another_key_is_nobodys_business(booked, reconcile, simulator, caplog, key):
    made = booked()
    simulator.book(event_type_id=2, start=made.starts_at.isoformat(), **{METADATA_KEY: key})
    assert reconcile(made) == 0
    assert said(caplog) == []


def test_a_booking_that_is_not_ours_is_nobodys_business(booked, reconcile, simulator, caplog):
    made = booked()
    simulator.book(event_type_id=2, start=made.starts_at.isoformat())
    assert reconcile(made) == 0
    assert said(caplog) == []


@pytest.mark.parametrize(
    "at_work",
    [
        "UPDATE sagas SET state = 'manual_review_required', ended_at = NULL",
        "UPDATE sagas SET ended_at = saga_now()",
        "INSERT INTO saga_locks (resource, saga_id, held) SELECT 'appointment:1', id, true FROM sagas",
        "UPDATE appointments SET updated_at = saga_now()",
    ],
    ids=["in review", "ended just now", "locked", "changed just now"],
)
def test_what_we_are_at_ourselves_is_passed_over(booked, reconcile, app_engine, db, caplog, at_work):
    made = booked()
    orphaned(app_engine, made)
    change(app_engine, "ALTER TABLE sagas DISABLE TRIGGER USER")
    change(app_engine, at_work)
    change(app_engine, "ALTER TABLE sagas ENABLE TRIGGER USER")
    assert reconcile(made) == 0
    assert said(caplog) == []
    assert hints(app_engine, db) == []


def test_an_appointment_whose_booking_cal_com_does_not_know(booked, reconcile, app_engine, simulator, caplog):
    made = booked()
    simulator.reset()
    with caplog.at_level(logging.CRITICAL, "saga"):
        assert reconcile(made) == 1
        assert reconcile(made) == 0
    assert said(caplog) == ["reconcile_missing"]
    assert "SAGAJOBS_CALCOM_API_KEY" in caplog.text
    assert made.calcom_v2_booking_id not in caplog.text


def test_a_list_that_makes_no_sense_is_no_list(booked, reconcile, app_engine, count, simulator):
    made = booked()
    simulator.fault("list", "malformed", count=1)
    sweep = Sweep(name="reconcile", body=reconciling(calcom), every=1, what="differences")
    with pytest.raises(CalcomUnavailable):
        run(app_engine, sweep)
    assert count("sweeps") == 0, "the same day again"
    assert reconcile(made) == 0


def test_one_that_cannot_be_compared_does_not_keep_the_sweep_from_the_others(
    booked, reconcile, app_engine, db, simulator, caplog
):
    bad, good = booked(), booked()
    for made in (bad, good):
        simulator.host("cancel", made.calcom_v2_booking_id)
    change(app_engine, "UPDATE appointments SET calcom_v2_booking_id = 'no uid/of Cal.com' WHERE id = :id", id=bad.id)
    change(app_engine, "UPDATE appointments SET updated_at = updated_at - interval '2 min'")
    assert reconcile(good) == 1
    assert [hint["appointment_id"] for hint in hints(app_engine, db)] == [good.id]
    assert f"the booking of appointment {bad.id} could not be compared" in caplog.text


# --- the walk through the days ---


def test_the_days_are_walked_through_one_by_one_and_then_again():
    window = Window.after(None, NOW)
    assert (window.first, window.last) == (NOW - BEHIND, NOW - BEHIND + WINDOW)
    days = [window.first]
    while (window := Window.after(window.cursor(), NOW)).first > days[-1]:
        days.append(window.first)
    assert len(days) == (BEHIND + AHEAD) / WINDOW
    assert days[-1] + WINDOW == NOW + AHEAD
    assert window.first == NOW - BEHIND


def test_a_round_that_was_broken_off_long_ago_begins_at_the_present():
    assert Window.after({"first": (NOW - timedelta(days=9)).isoformat()}, NOW).first == NOW - BEHIND


def test_each_run_moves_on_by_a_day_and_one_without_cal_com_is_none(app_engine, db, simulator):
    sweep = Sweep(name="reconcile", body=reconciling(calcom), every=1, what="differences")

    def noted():
        return db.execute(text("SELECT cursor->>'first', ran_at FROM sweeps")).one()

    run(app_engine, sweep)
    first = datetime.fromisoformat(noted()[0])
    run(app_engine, sweep)
    second = noted()
    assert datetime.fromisoformat(second[0]) == first + WINDOW
    for kind in ("http_503", "rate_limit"):
        simulator.fault("list", kind, count=1)
        with pytest.raises(TransientError):
            run(app_engine, sweep)
        assert noted() == second, "it is late if that goes on"
        simulator.heal()


def test_with_a_wrong_key_it_has_not_run(app_engine, count):
    class Refused:
        def find_bookings(self, **_filters):
            raise BadCredentials("GET /v2/bookings: 401", status=401)

    with pytest.raises(BadCredentials):
        run(app_engine, Sweep(name="reconcile", body=reconciling(Refused), every=1, what="differences"))
    assert count("sweeps") == 0
