"""The façade with the switch on and off, and the switch itself, which is turned without a restart."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, event, text

from sagajobs import (
    InvalidInput,
    PermanentError,
    SagaException,
    book_composite,
    create_appointment,
    find_appointment,
    sync_appointment_to_calcom,
)
from sagajobs.booking.cache import AppointmentCache
from sagajobs.booking.direct import book_directly
from sagajobs.errors import StepError
from sagajobs.saga.switches import Switch
from sagajobs.testing.waiting import wait_for


@pytest.fixture
def switch(app_engine, clean) -> Iterator[Switch]:
    """The application's own switch, on as it is by default."""
    from sagajobs.root import saga_enabled

    saga_enabled._read_at = float("-inf")
    yield saga_enabled
    saga_enabled._read_at = float("-inf")


@pytest.fixture
def off(switch) -> Switch:
    switch.turn(False, who="an operator", why="a test")
    return switch


def sagas(db) -> int:
    return db.execute(text("SELECT count(*) FROM sagas")).scalar_one()


def test_on_by_default_it_books_with_a_saga(switch, booking, db):
    assert switch.on is True
    made = create_appointment(booking())
    assert made.status == "scheduled"
    assert sagas(db) == 1


def test_off_it_books_the_same_without_one(off, booking, db, simulator, staff):
    request = booking(notes="by the window")
    made = create_appointment(request)
    assert sagas(db) == 0
    assert (made.status, made.calcom_sync_status, made.staff_id) == ("scheduled", "synced", staff[0])
    (there,) = simulator.ledger()
    assert made.calcom_v2_booking_id == there["uid"]
    row = db.execute(text("SELECT * FROM appointments")).one()
    assert (row.notes, row.saga_id, row.starts_at) == ("by the window", None, request["start"])
    entry = db.execute(text("SELECT * FROM audit_log WHERE entity = 'appointment'")).one()
    assert (entry.action, entry.saga_id, entry.detail["saga"]) == ("appointment.booked", None, False)
    assert find_appointment(made.id) == made.summary


def test_off_nonsense_is_refused_all_the_same(off, booking, db):
    with pytest.raises(InvalidInput, match="event_type_id"):
        create_appointment(booking(event_type_id=99))
    assert db.execute(text("SELECT count(*) FROM customers")).scalar_one() == 0


def test_off_what_cal_com_refuses_is_not_undone(off, booking, db, simulator):
    """What is lost: the appointment stands here, and nobody comes back to it."""
    request = booking()
    simulator.book(event_type_id=request["event_type_id"], start=request["start"].isoformat())
    with pytest.raises(StepError, match="not available"):
        create_appointment(request)
    row = db.execute(text("SELECT * FROM appointments")).one()
    assert (row.status, row.calcom_sync_status, row.calcom_v2_booking_id) == ("pending", "pending", None)
    assert row.deleted_at is None


def test_off_nothing_is_tried_twice_and_nothing_is_looked_for(off, booking, db, simulator):
    """Booked, and the answer lost: with a saga this is found; here it is an orphan."""
    simulator.fault("create", "http_500", "after", count=1)
    with pytest.raises(StepError):
        create_appointment(booking())
    assert len(simulator.standing()) == 1
    assert db.execute(text("SELECT calcom_v2_booking_id FROM appointments")).scalar_one() is None


def test_off_a_slot_that_is_taken_here_is_refused(off, booking, staff, db):
    first = booking(staff_id=staff[0])
    create_appointment(first)
    with pytest.raises(PermanentError, match="not free"):
        create_appointment(booking(staff_id=staff[0], start=first["start"], event_type_id=2))
    assert db.execute(text("SELECT count(*) FROM appointments")).scalar_one() == 1


def test_off_a_host_who_is_busy_here_is_not_assigned(off, booking, staff, app_engine):
    request = booking(event_type_id=1)
    with app_engine.database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO customers (name, email, time_zone) VALUES ('x', 'x@x.example', 'UTC');"
                "INSERT INTO appointments (customer_id, staff_id, event_type_id, starts_at, ends_at) "
                "VALUES (1, :staff, 1, :start, CAST(:start AS timestamptz) + interval '30 min')"
            ),
            {"staff": staff[0], "start": request["start"]},
        )
    made = create_appointment(request)
    assert (made.status, made.staff_id) == ("scheduled", None)


def test_off_a_booking_that_was_brought_along_is_adopted(off, booking, simulator):
    request = booking()
    there = simulator.book(
        event_type_id=request["event_type_id"],
        start=request["start"].isoformat(),
        email=request["customer"]["email"],
    )
    made = create_appointment(request | {"calcom_booking_uid": there["uid"]})
    assert made.calcom_v2_booking_id == there["uid"]
    assert len(simulator.ledger()) == 1
    with pytest.raises(PermanentError, match="no booking"):
        create_appointment(booking(calcom_booking_uid="nosuchbooking"))


def test_off_what_was_read_in_the_middle_is_forgotten(off, booking, simulator, monkeypatch):
    """Somebody reads the appointment between its two commits."""
    from sagajobs import AppointmentCreationSaga

    services, seen = AppointmentCreationSaga.services, []
    lookup = services.event_types.get

    def meanwhile(event_type_id):
        found = find_appointment(1)
        seen.append(found and found.status)
        return lookup(event_type_id)

    monkeypatch.setattr(services.event_types, "get", meanwhile)
    made = create_appointment(booking())
    assert seen == [None, "pending"]
    assert find_appointment(made.id).status == "scheduled"


def test_off_a_cache_that_does_not_forget_is_no_failure(off, booking, app_engine, caplog):
    """Its Redis is a port that nobody listens on."""
    from sagajobs import AppointmentCreationSaga

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = AppointmentCache(lambda: f"redis://127.0.0.1:{taken.getsockname()[1]}", app_engine.database)
        services = replace(AppointmentCreationSaga.services, cache=away)
        made = book_directly(app_engine.database, services, booking())
    assert made.status == "scheduled"
    assert f"appointment {made.id}: the cache did not forget" in caplog.text


def test_turned_back_on_it_books_with_a_saga_again(off, booking, db):
    create_appointment(booking())
    off.turn(True, who="an operator", why="it is over")
    create_appointment(booking())
    assert sagas(db) == 1


def test_with_a_saga_a_failure_is_undone(switch, booking, db, simulator):
    request = booking()
    simulator.book(event_type_id=request["event_type_id"], start=request["start"].isoformat())
    with pytest.raises(SagaException):
        create_appointment(request)
    assert db.execute(text("SELECT status FROM appointments")).scalar_one() == "failed"


# --- changes ---


@pytest.mark.parametrize("value", [True, False])
def test_an_appointment_is_moved_and_cancelled_the_same_with_and_without_a_saga(
    switch, booking, db, simulator, staff, value
):
    made = create_appointment(booking())
    switch.turn(value, who="an operator", why="a test")
    before = sagas(db)
    start = made.starts_at + timedelta(hours=5)
    moved = sync_appointment_to_calcom(made.id, "reschedule", {"start": start})
    assert (moved["success"], moved["will_retry"], moved["saga_id"] is not None) == (True, False, value)
    assert (moved["appointment"].status, moved["appointment"].starts_at) == ("rescheduled", start)
    assert moved["appointment"].calcom_v2_booking_id != made.calcom_v2_booking_id
    assert find_appointment(made.id) == moved["appointment"].summary
    gone = sync_appointment_to_calcom(made.id, "cancel", {"reason": "ill"})
    assert gone["success"] is True
    assert (gone["appointment"].status, gone["appointment"].calcom_sync_status) == ("cancelled", "cancelled")
    assert find_appointment(made.id).status == "cancelled"
    again = sync_appointment_to_calcom(made.id, "cancel")
    assert again["success"] is True, "asked for twice, it is done once"
    assert simulator.standing() == []
    assert sagas(db) - before == (3 if value else 0)
    written = text("SELECT action FROM audit_log WHERE entity = 'appointment' ORDER BY id")
    actions = db.execute(written).scalars().all()
    assert actions == ["appointment.booked", "appointment.rescheduled", "appointment.cancelled"]


def test_off_a_change_that_makes_no_sense_is_refused(off, booking, db):
    made = create_appointment(booking())
    with pytest.raises(InvalidInput, match="operation"):
        sync_appointment_to_calcom(made.id, "explode")
    with pytest.raises(InvalidInput, match="no appointment 4711"):
        sync_appointment_to_calcom(4711, "cancel")
    with pytest.raises(InvalidInput, match="past"):
        sync_appointment_to_calcom(made.id, "reschedule", {"start": made.starts_at - timedelta(days=9)})


def test_off_a_change_that_cal_com_does_not_answer_is_made_once_at_the_most(off, booking, simulator):
    """Moved, and the answer lost: with a saga the new booking is found; here the appointment stays behind."""
    made = create_appointment(booking())
    simulator.fault("reschedule", "http_500", "after", count=1)
    start = made.starts_at + timedelta(hours=5)
    failed = sync_appointment_to_calcom(made.id, "reschedule", {"start": start})
    assert (failed["success"], failed["will_retry"], failed["saga_id"]) == (False, False, None)
    assert "\n" not in failed["error"]
    assert failed["appointment"] == made
    assert len(simulator.standing()) == 1
    assert simulator.standing()[0]["uid"] != made.calcom_v2_booking_id


# --- composite ---


def composite(booking, *event_types: int) -> tuple[dict, list[dict]]:
    """Return a customer and a segment for each event type, each at a time of its own."""
    requests = [booking(event_type_id=number) for number in event_types]
    customer = requests[0].pop("customer")
    return customer, [{name: value for name, value in one.items() if name != "customer"} for one in requests]


@pytest.mark.parametrize("value", [True, False])
def test_a_composite_booking_is_the_same_with_and_without_a_saga(switch, booking, db, simulator, staff, value):
    switch.turn(value, who="an operator", why="a test")
    made = book_composite(*composite(booking, 1, 2, 3))
    assert sagas(db) == int(value)
    assert [one.status for one in made.appointments] == ["scheduled"] * 3
    assert [one.staff_id for one in made.appointments] == staff[:3]
    assert {one.calcom_v2_booking_id for one in made.appointments} == {one["uid"] for one in simulator.standing()}
    rows = db.execute(text("SELECT composite_id, segment FROM appointments ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [(made.id, 0), (made.id, 1), (made.id, 2)]


def test_off_a_segment_that_fails_leaves_the_others_as_they_are(off, booking, db, simulator):
    """What is lost: all of them or none."""
    customer, segments = composite(booking, 1, 2, 3)
    simulator.book(event_type_id=2, start=segments[1]["start"].isoformat())
    with pytest.raises(StepError, match="not available"):
        book_composite(customer, segments)
    rows = db.execute(text("SELECT status FROM appointments ORDER BY segment")).scalars().all()
    assert rows == ["scheduled", "pending", "pending"]
    assert len(simulator.standing()) == 2


def test_off_a_composite_booking_that_makes_no_sense_is_refused(off, booking, db):
    customer, segments = composite(booking, 1, 2)
    with pytest.raises(InvalidInput, match="segments"):
        book_composite(customer, segments[:1])
    assert db.execute(text("SELECT count(*) FROM appointments")).scalar_one() == 0


# --- the switch ---


@pytest.fixture
def other(app_engine, clean) -> Switch:
    """A switch of another name."""
    return Switch(app_engine.database, "a.switch", default=False)


def test_a_switch_stands_as_it_is_by_default_until_somebody_turns_it(other):
    assert (other.on, other.turned()) == (False, None)
    turned = other.turn(True, who="  me ", why="because\n")
    assert (turned.value, turned.set_by, turned.why) == (True, "me", "because")
    assert other.on is True
    assert other.turned() == turned


@pytest.mark.parametrize(
    ("who", "why"), [("", "why"), ("who", "   "), ("two\nlines", "why"), ("w" * 201, "why"), ("who", "a\x00nul")]
)
def test_who_turns_a_switch_says_who_and_why(other, who, why):
    with pytest.raises(InvalidInput):
        other.turn(True, who=who, why=why)
    assert other.turned() is None


def test_another_process_feels_it_within_a_second_and_need_not_ask_each_time(other, app_engine):
    elsewhere = Switch(app_engine.database, other.name, default=False)
    asked = []
    watch = ("before_cursor_execute", lambda *args: asked.append(args[2]))
    assert elsewhere.on is False
    event.listen(Engine, *watch)
    try:
        for _ in range(1000):
            assert elsewhere.on is False
    finally:
        event.remove(Engine, *watch)
    assert len(asked) <= 5, "once a second"
    other.turn(True, who="me", why="test")
    wait_for(lambda: elsewhere.on)


_ELSEWHERE = """
import sys
from sagajobs.root import saga_enabled
for _ in sys.stdin:
    print(saga_enabled.on, flush=True)
"""


@pytest.mark.parametrize("environment", ["true", "false"])
def test_the_environment_says_how_it_stands_by_default_and_the_table_overrides_it(switch, environment):
    """A web application that runs, and is not restarted."""
    with subprocess.Popen(
        [sys.executable, "-c", _ELSEWHERE],
        env=os.environ | {"SAGAJOBS_SAGA_ENABLED": environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask() -> str:
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        by_default = str(environment == "true")
        assert ask() == by_default
        switch.turn(environment != "true", who="me", why="test")
        wait_for(lambda: ask() != by_default)
        process.stdin.close()
        assert process.wait(60) == 0
