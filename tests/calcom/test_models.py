"""What goes out is checked, what comes in is tolerated, and neither shows people in a repr."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from sagajobs.calcom.errors import InvalidRequest
from sagajobs.calcom.models import Booking, BookingStatus, EventType, Me, NewBooking, checked_uid, timestamp
from sagajobs.errors import PermanentError

ROW = {
    "uid": "abc123",
    "id": 7,
    "status": "accepted",
    "start": "2030-01-01T09:00:00.000Z",
    "end": "2030-01-01T09:30:00.000Z",
}


def test_a_body_has_what_cal_com_knows_and_nothing_else(new):
    booking = new(length_in_minutes=60, metadata={"k": "v"}, start=datetime(2030, 1, 1, 10, tzinfo=UTC))

    assert booking.to_json() == {
        "eventTypeId": 1,
        "start": "2030-01-01T10:00:00.000Z",
        "attendee": {
            "name": "Zebulon Quagmire",
            "email": "zebulon+x@quagmire.example",
            "phoneNumber": "+4915112345678",
            "timeZone": "Europe/Berlin",
            "language": "en",
        },
        "lengthInMinutes": 60,
        "bookingFieldsResponses": {"notes": "allergic to penguins"},
        "metadata": {"k": "v"},
    }


def test_what_is_not_given_is_not_sent(new):
    body = new(attendee_phone=None, notes=None).to_json()

    assert set(body) == {"eventTypeId", "start", "attendee"}
    assert set(body["attendee"]) == {"name", "email", "timeZone", "language"}


def test_times_are_sent_in_utc_with_milliseconds():
    moment = datetime(2030, 1, 1, 10, 0, 0, 123999, tzinfo=timezone(timedelta(hours=2)))

    assert timestamp(moment) == "2030-01-01T08:00:00.123Z"


@pytest.mark.parametrize(
    "fields",
    [
        {"start": datetime(2030, 1, 1)},  # noqa: DTZ001 - what is refused
        {"attendee_email": None, "attendee_phone": None},
        {"attendee_name": " "},
        {"metadata": {f"k{number}": "v" for number in range(51)}},
        {"metadata": {"k" * 41: "v"}},
        {"metadata": {"k": "v" * 501}},
        {"metadata": {"k": 1}},
        {"metadata": {"k": True}},
        {"metadata": {1: "v"}},
    ],
)
def test_what_cal_com_would_refuse_is_refused_at_once(new, fields):
    with pytest.raises(InvalidRequest) as caught:
        new(**fields)

    assert isinstance(caught.value, PermanentError)


def test_metadata_up_to_the_limits_is_fine(new):
    metadata = {f"{number:040}": "v" * 500 for number in range(50)}

    assert new(metadata=metadata).to_json()["metadata"] == metadata


@pytest.mark.parametrize("uid", ["", "a/b", "..", "a?b", "a b", "ä", "x" * 129, "uid\n"])
def test_a_uid_cannot_change_the_path(uid):
    with pytest.raises(InvalidRequest):
        checked_uid(uid)


def test_a_booking_needs_little_and_ignores_the_unknown():
    booking = Booking.model_validate({**ROW, "brandNew": {"a": 1}, "metadata": None})

    assert booking.uid == "abc123"
    assert booking.status == BookingStatus.ACCEPTED
    assert booking.start == datetime(2030, 1, 1, 9, tzinfo=UTC)
    assert booking.metadata == {}
    assert booking.event_type_id is None
    assert booking.hosts == ()


@pytest.mark.parametrize("missing", ["uid", "id", "status", "start", "end"])
def test_without_these_it_is_no_booking(missing):
    with pytest.raises(ValidationError):
        Booking.model_validate({name: value for name, value in ROW.items() if name != missing})


@pytest.mark.parametrize("bad", [{"uid": ""}, {"start": "2030-01-01T09:00:00"}, {"hosts": "x"}])
def test_with_these_it_is_no_booking(bad):
    with pytest.raises(ValidationError):
        Booking.model_validate({**ROW, **bad})


def test_the_event_type_is_read_from_the_object_before_the_deprecated_field():
    row = {**ROW, "eventTypeId": 1, "eventType": {"id": 2, "slug": "x"}}

    assert Booking.model_validate(row).event_type_id == 2
    assert Booking.model_validate({**ROW, "eventTypeId": 1}).event_type_id == 1


def test_links_of_a_move_are_read():
    moved = Booking.model_validate({**ROW, "rescheduledToUid": "new", "rescheduledFromUid": "old"})

    assert (moved.rescheduled_from_uid, moved.rescheduled_to_uid) == ("old", "new")


def test_a_booking_survives_json():
    booking = Booking.model_validate({**ROW, "hosts": [{"id": 1}], "eventType": {"id": 2, "slug": "x"}})

    assert Booking.model_validate(booking.model_dump(mode="json", by_alias=False)) == booking


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (False, False, False)),
        ({"confirmationPolicy": {"disabled": True}}, (False, False, False)),
        ({"confirmationPolicy": {"type": "always"}}, (True, False, False)),
        ({"price": 5}, (True, False, False)),
        ({"recurrence": {"frequency": "weekly"}}, (False, True, False)),
        ({"recurrence": None, "seats": {"disabled": True}}, (False, False, False)),
        ({"seats": {"seatsPerTimeSlot": 3}}, (False, False, True)),
    ],
)
def test_an_event_type_says_how_it_books(settings, expected):
    event_type = EventType.model_validate({"id": 1, "slug": "s", "lengthInMinutes": 30, **settings})

    assert (event_type.requires_confirmation, event_type.recurring, event_type.seated) == expected
    assert event_type.lengths == (30,)


def test_lengths_to_choose_from():
    event_type = EventType.model_validate(
        {"id": 1, "slug": "s", "lengthInMinutes": 30, "lengthInMinutesOptions": [15, 30]}
    )

    assert event_type.lengths == (15, 30)


def test_no_repr_shows_a_person(new, secrets):
    person = {
        "name": "Zebulon Quagmire",
        "email": "zebulon+x@quagmire.example",
        "phoneNumber": "+4915112345678",
        "username": "Zebulon",
        "timeZone": "Europe/Quagmire",
    }
    shown = [
        new(metadata={"about": "Zebulon"}),
        Me.model_validate({"id": 1, **person}),
        Booking.model_validate(
            {
                **ROW,
                "hosts": [{"id": 1, **person}],
                "attendees": [person],
                "guests": ["zebulon+x@quagmire.example"],
                "metadata": {"about": "Zebulon"},
                "cancellationReason": "Zebulon is allergic to penguins",
                "title": "With Zebulon Quagmire",
                "location": "+4915112345678",
            }
        ),
    ]

    for value in shown:
        assert not [secret for secret in secrets if secret in repr(value) + str(value)]


def test_validation_errors_do_not_quote_what_came(secrets):
    with pytest.raises(ValidationError) as caught:
        Booking.model_validate({**ROW, "guests": {"zebulon+x@quagmire.example": 1}, "start": "Zebulon"})

    assert not [secret for secret in secrets if secret in str(caught.value)]


def test_a_booking_to_be_made_cannot_be_changed(new):
    with pytest.raises(AttributeError):
        new().event_type_id = 2


def test_new_bookings_are_equal_by_value(tomorrow):
    fields = {
        "event_type_id": 1,
        "start": tomorrow,
        "attendee_name": "A",
        "attendee_email": "a@example.com",
        "attendee_time_zone": "UTC",
    }

    assert NewBooking(**fields) == NewBooking(**fields)
