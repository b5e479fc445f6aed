"""What can be asked for, and what is refused before anything is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, BookingRequest, InvalidInput

NOW = datetime.now(UTC)

BAD = {
    "nothing at all": ({"customer": None, "start": None}, ["customer", "start"]),
    "no e-mail": ({"customer": {"email": None}}, ["customer.email"]),
    "bad e-mail": ({"customer": {"email": "not an address"}}, ["customer.email"]),
    "no name": ({"customer": {"name": "  "}}, ["customer.name"]),
    "oversized name": ({"customer": {"name": "x" * 201}}, ["customer.name"]),
    "control characters": ({"customer": {"name": "a\r\nBcc: b"}}, ["customer.name"]),
    "bad phone": ({"customer": {"phone": "030 123"}}, ["customer.phone"]),
    "bad zone": ({"customer": {"time_zone": "Europe/Nowhere"}}, ["customer.time_zone"]),
    "unknown field": ({"colour": "red"}, ["colour"]),
    "naive start": ({"start": NOW.replace(tzinfo=None) + timedelta(days=1)}, ["start"]),
    "start is no time": ({"start": "tomorrow"}, ["start"]),
    "past start": ({"start": NOW - timedelta(minutes=1)}, ["start"]),
    "start beyond all calendars": ({"start": "9999-12-31T23:00:00-12:00"}, ["start"]),
    "start before all calendars": ({"start": "0001-01-01T01:00:00+12:00"}, ["start"]),
    "zone of a machine": ({"customer": {"time_zone": "localtime"}}, ["customer.time_zone"]),
    "no duration": ({"duration_minutes": 0}, ["duration_minutes"]),
    "endless": ({"duration_minutes": 10_000}, ["duration_minutes"]),
    "not its duration": ({"duration_minutes": 31}, ["duration_minutes"]),
    "wrong types": ({"event_type_id": "one", "duration_minutes": "30"}, ["event_type_id", "duration_minutes"]),
    "unknown event type": ({"event_type_id": 4711}, ["event_type_id"]),
    "huge number": ({"event_type_id": 2**40}, ["event_type_id"]),
    "unknown staff": ({"staff_id": 4711}, ["staff_id"]),
    "oversized notes": ({"notes": "x" * 2001}, ["notes"]),
    "null byte": ({"notes": "a\0b"}, ["notes"]),
    "bad uid": ({"calcom_booking_uid": "../cancel"}, ["calcom_booking_uid"]),
}


@pytest.mark.parametrize(("changes", "fields"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_name_and_nothing_is_written(booking, db, changes, fields):
    request = booking()
    for key, value in changes.items():
        if isinstance(value, dict):
            request[key] |= value
        else:
            request[key] = value
        if request[key] is None:
            del request[key]
    with pytest.raises(InvalidInput) as caught:
        AppointmentCreationSaga.enqueue(request)
    named = {problem.partition(":")[0] for problem in caught.value.problems}
    assert named == set(fields)
    assert "\n" not in str(caught.value)
    assert "secret.example" not in str(caught.value)
    for table in ("sagas", "saga_steps", "saga_events", "customers", "appointments"):
        assert db.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0


def test_a_request_hides_the_customer_in_its_repr(booking):
    request = BookingRequest.model_validate(booking(notes="private note", customer={"phone": "+4930123456"}))
    shown = repr(request)
    for private in ("Private Person", "secret.example", "+4930123456", "private note"):
        assert private not in shown


def test_a_start_is_kept_as_cal_com_keeps_it(booking):
    last_of_october = NOW.replace(year=NOW.year + 1, month=10, day=31)
    sunday = last_of_october - timedelta(days=last_of_october.isoweekday() % 7)
    start = sunday.replace(
        hour=2, minute=30, second=0, microsecond=1999, tzinfo=ZoneInfo("Europe/Berlin")
    )  # comes twice
    request = BookingRequest.model_validate(booking(start=start, duration_minutes=60))
    assert request.start == sunday.replace(hour=0, minute=30, second=0, microsecond=1000)
    assert request.end - request.start == timedelta(hours=1)


def test_cal_com_being_away_keeps_nobody_from_booking(booking, simulator, worker):
    """An event type that cannot be checked is checked by the saga itself."""
    AppointmentCreationSaga.services.event_types.forget()
    simulator.fault("any", "drop", count=1)
    handles = [AppointmentCreationSaga.enqueue(booking()) for _ in range(3)]
    assert [handle.wait(90) for handle in handles] == ["completed"] * 3
    AppointmentCreationSaga.services.event_types.forget()
