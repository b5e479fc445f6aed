"""Reconciling: host, end, and what a saga has left out of step are compared, too."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from sqlalchemy import text

from sagajobs.booking.local import staff_of_hosts
from tests.support.following import hints, let_time_pass, said
from tests.support.tables import change

pytestmark = pytest.mark.usefixtures("nobody_at_work", "simulator")

ROUND_ROBIN = 8
"""The event type that whoever is free gets."""


@pytest.fixture
def booked(booked_long_ago):
    return booked_long_ago


# --- whom it is with, and until when ---


def test_another_host_is_another_staff_member(booked, reconcile, app_engine, db, simulator, staff):
    made = booked(event_type_id=ROUND_ROBIN)
    host = next(number for number in (3, 4, 5) if staff[number - 1] != made.staff_id)
    simulator.host("reassign", made.calcom_v2_booking_id, host=host)
    assert reconcile(made) == 1
    assert [hint["seen"] for hint in hints(app_engine, db)] == ["other host"]
    row = db.execute(text("SELECT staff_id, status FROM appointments")).one()
    assert tuple(row) == (staff[host - 1], "scheduled")
    let_time_pass(app_engine)
    assert reconcile(made) == 0


def test_a_host_who_is_none_of_our_staff_is_no_difference(booked, reconcile, app_engine, db, staff):
    made = booked()
    change(app_engine, "DELETE FROM staff WHERE id <> ALL(SELECT staff_id FROM appointments)")
    change(app_engine, "UPDATE staff SET calcom_user_id = 4711, email = 'nobody@example.com'")
    assert reconcile(made) == 0
    assert hints(app_engine, db) == []


def test_a_staff_member_who_is_busy_here_is_tried_once_and_nobody_is_called(
    booked, reconcile, app_engine, db, staff, caplog
):
    made = booked(event_type_id=2)
    busy = booked(event_type_id=1, start=made.starts_at)
    change(app_engine, "UPDATE staff SET calcom_user_id = NULL, email = 'x' || email WHERE id = :id", id=staff[0])
    change(app_engine, "UPDATE appointments SET staff_id = NULL WHERE id = :id", id=made.id)
    change(app_engine, "UPDATE appointments SET staff_id = :s WHERE id = :id", s=staff[1], id=busy.id)
    let_time_pass(app_engine)
    assert reconcile(made) == 1
    assert [hint["seen"] for hint in hints(app_engine, db)] == ["other host"]
    let_time_pass(app_engine)
    assert reconcile(made) == 0
    assert said(caplog) == []


def test_an_adopted_booking_of_another_length_ends_when_cal_com_says(booked, reconcile, app_engine, db, simulator):
    made = booked(event_type_id=6, duration_minutes=60)
    change(app_engine, "UPDATE appointments SET ends_at = starts_at + interval '15 min'")
    let_time_pass(app_engine)
    assert reconcile(made) == 1
    assert [hint["seen"] for hint in hints(app_engine, db)] == ["other end"]
    assert db.execute(text("SELECT ends_at FROM appointments")).scalar_one() == made.ends_at


def test_a_host_is_known_by_his_number_before_his_address(db, app_engine, staff):
    change(app_engine, "UPDATE staff SET email = 'former@example.com' WHERE calcom_user_id = 1")
    change(app_engine, "UPDATE staff SET calcom_user_id = NULL, email = 'host1@example.com' WHERE calcom_user_id = 2")
    hosts = [{"id": 1, "email": "host1@example.com"}, {"id": 77, "email": "HOST1@example.com"}]
    hosts += [{"id": 78, "email": None}]
    assert staff_of_hosts(db, hosts) == {1: staff[0], 77: staff[1]}


# --- what a saga has left out of step ---


@pytest.mark.parametrize("status", ["error", "manual_review_required", "pending"])
@pytest.mark.parametrize("act", ["nothing", "cancel"])
def test_what_a_saga_has_left_out_of_step_is_settled_by_what_cal_com_says(
    booked, reconcile, app_engine, db, simulator, caplog, status, act
):
    made = booked()
    change(app_engine, "UPDATE appointments SET calcom_sync_status = :status", status=status)
    if act == "cancel":
        simulator.host("cancel", made.calcom_v2_booking_id)
    let_time_pass(app_engine)
    assert [reconcile(made), reconcile(made)] == [1, 0], "it is on its way, and nobody is called"
    assert said(caplog) == []
    (hint,) = hints(app_engine, db)
    saga_id = db.execute(text("SELECT id FROM sagas WHERE name = 'appointment_creation'")).scalar_one()
    assert hint["seen"] == ("cancelled" if act == "cancel" else f"left {status} by {saga_id}")
    row = db.execute(text("SELECT status, calcom_sync_status FROM appointments")).one()
    assert tuple(row) == (("cancelled", "cancelled") if act == "cancel" else ("scheduled", "synced"))
    let_time_pass(app_engine)
    assert reconcile(made) == 0
    assert said(caplog) == []


def test_one_that_has_no_booking_and_nobody_at_work_is_said_once_a_day(booked, reconcile, app_engine, db, caplog):
    made = booked()
    unbooked = "calcom_v2_booking_id = NULL, status = 'pending', calcom_sync_status = 'error'"
    change(app_engine, f"UPDATE appointments SET {unbooked}")
    let_time_pass(app_engine)
    with caplog.at_level(logging.CRITICAL, "saga"):
        found = [reconcile(made), reconcile(made)]
    assert found == [2, 0], "and its booking is an orphan now"
    assert sorted(said(caplog)) == ["reconcile_orphan", "reconcile_out_of_step"]
    assert f"appointment {made.id} is error and no saga is at work on it (it has no booking)" in caplog.text


def test_what_a_follower_was_abandoned_over_is_said_and_not_followed_again(
    booked, reconcile, app_engine, db, simulator, staff, caplog, impatient_follow
):
    """Moved onto another appointment of the staff member's: a person was asked, and gave up."""
    first = booked(event_type_id=1)
    booked(event_type_id=2, start=first.starts_at + timedelta(hours=5))
    change(app_engine, "UPDATE appointments SET staff_id = :id WHERE id = 2", id=staff[0])
    simulator.host("move", first.calcom_v2_booking_id, start=(first.starts_at + timedelta(hours=5)).isoformat())
    change(app_engine, "UPDATE staff SET calcom_user_id = NULL, email = 'x' || email WHERE id = :id", id=staff[1])
    let_time_pass(app_engine)
    assert reconcile(first) == 1
    hints(app_engine, db)
    app_engine.review.abandon(app_engine.review.cases()[0].number, who="Op", why="cannot be helped")
    let_time_pass(app_engine)
    with caplog.at_level(logging.CRITICAL, "saga"):
        assert reconcile(first) == 1
        assert reconcile(first) == 0
    assert len(hints(app_engine, db)) == 1
    assert said(caplog) == ["reconcile_out_of_step"]
    row = db.execute(text("SELECT calcom_sync_status, starts_at FROM appointments WHERE id = 1")).one()
    assert tuple(row) == ("error", first.starts_at)
