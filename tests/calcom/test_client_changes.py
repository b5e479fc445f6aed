"""Moving, confirming, declining, locations, guests: what is sent, and what is made of the answer."""

import json
from datetime import UTC, datetime

import pytest

from sagajobs.calcom import errors
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.models import Location, LocationType
from tests.support.scripted import http

START = datetime(2030, 1, 1, 10, tzinfo=UTC)
ROW = {
    "uid": "old",
    "id": 1,
    "status": "accepted",
    "start": "2030-01-01T09:00:00.000Z",
    "end": "2030-01-01T09:30:00.000Z",
}
NEW = ROW | {"uid": "new", "id": 2, "rescheduledFromUid": "old", "reschedulingReason": "rain"}


def success(row, status=200):
    return http(status, json.dumps({"status": "success", "data": row}).encode())


def sent(request):
    """Return method and path, the headers that matter, and the body."""
    head, _, body = request.decode().partition("\r\n\r\n")
    lines = head.split("\r\n")
    version = [line for line in lines if line.lower() == "cal-api-version: 2024-08-13"]
    return lines[0].removesuffix(" HTTP/1.1"), len(version), json.loads(body) if body else None


LINK = Location(LocationType.LINK, "https://meet.example/1")


@pytest.mark.parametrize(
    ("call", "answer", "line", "body"),
    [
        (
            lambda client: client.reschedule_booking("old", START, reason="rain", rescheduled_by="h@example.com"),
            success(NEW, 201),
            "POST /v2/bookings/old/reschedule",
            {
                "start": "2030-01-01T10:00:00.000Z",
                "reschedulingReason": "rain",
                "rescheduledBy": "h@example.com",
            },
        ),
        (
            lambda client: client.reschedule_booking("old", START, reason="rain"),
            success(NEW, 201),
            "POST /v2/bookings/old/reschedule",
            {"start": "2030-01-01T10:00:00.000Z", "reschedulingReason": "rain"},
        ),
        (lambda client: client.confirm_booking("old"), success(ROW), "POST /v2/bookings/old/confirm", None),
        (
            lambda client: client.decline_booking("old", "ill"),
            success(ROW | {"status": "rejected"}),
            "POST /v2/bookings/old/decline",
            {"reason": "ill"},
        ),
        (
            lambda client: client.set_location("old", LINK),
            success(ROW | {"location": LINK.place}),
            "PATCH /v2/bookings/old/location",
            {"location": {"type": "link", "link": "https://meet.example/1"}},
        ),
        (
            lambda client: client.add_guests("old", ["a@example.com", "b@example.com"]),
            success(ROW | {"guests": ["a@example.com", "b@example.com"]}),
            "POST /v2/bookings/old/guests",
            {"guests": [{"email": "a@example.com"}, {"email": "b@example.com"}]},
        ),
    ],
)
def test_what_is_sent(scripted, call, answer, line, body):
    with CalcomClient(scripted(answer), "cal_x") as client:
        assert call(client).id == (2 if "reschedule" in line else 1)

    assert sent(scripted.requests[0]) == (line, 1, body)


def test_what_a_booking_shows(scripted):
    row = NEW | {
        "location": "https://meet.example/1",
        "absentHost": True,
        "attendees": [{"name": "Ann", "absent": False}],
        "guests": ["g@example.com"],
    }

    with CalcomClient(scripted(success(row, 201)), "cal_x") as client:
        moved = client.reschedule_booking("old", START, reason="rain")

    assert (moved.uid, moved.rescheduled_from_uid, moved.rescheduling_reason) == ("new", "old", "rain")
    assert (moved.location, moved.absent_host, moved.attendees[0].absent) == ("https://meet.example/1", True, False)
    assert moved.guests == ("g@example.com",)
    assert not [word for word in ("meet.example", "rain", "g@example") if word in repr(moved)]


@pytest.mark.parametrize("row", [ROW, NEW | {"rescheduledFromUid": "another"}, [NEW], None])
def test_an_answer_about_another_booking_leaves_a_move_open(scripted, row):
    with CalcomClient(scripted(success(row, 201)), "cal_x") as client, pytest.raises(errors.CalcomOutcomeUnknown):
        client.reschedule_booking("old", START, reason="rain")


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.add_guests("old", []),
        lambda client: client.add_guests("old", [f"{number}@example.com" for number in range(11)]),
        lambda client: client.set_location("old", Location(LocationType.PHONE, " ")),
        lambda client: client.reschedule_booking("old", datetime(2030, 1, 1), reason="rain"),  # noqa: DTZ001
        lambda client: client.reschedule_booking("a/b", START, reason="rain"),
        lambda client: client.confirm_booking(""),
    ],
)
def test_what_cal_com_would_refuse_is_not_sent(simulator, client, call):
    with pytest.raises(errors.InvalidRequest):
        call(client)

    assert simulator.calls() == []


@pytest.mark.parametrize(
    ("call", "private"),
    [
        (
            lambda client: client.reschedule_booking("old", START, reason="gout", rescheduled_by="h@example.com"),
            ["gout", "h@example.com"],
        ),
        (lambda client: client.decline_booking("old", "gout"), ["gout"]),
        (lambda client: client.set_location("old", Location(LocationType.ADDRESS, "5 Elm Row")), ["Elm Row"]),
        (lambda client: client.add_guests("old", ["g@example.com"]), ["g@example.com"]),
    ],
)
def test_a_refusal_that_quotes_what_was_sent_is_quoted_without(scripted, caplog, call, private):
    words = "no: gout, h@example.com, 5 Elm Row, g@example.com"
    body = json.dumps({"statusCode": 400, "message": words}).encode()

    with CalcomClient(scripted(http(400, body)), "cal_x") as client, pytest.raises(errors.RefusalInDoubt) as caught:
        call(client)

    assert "no: " in str(caught.value)
    assert not [one for one in private if one in str(caught.value) + caplog.text]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("address", "address"),
        ("attendeeAddress", "address"),
        ("attendeeDefined", "location"),
        ("attendeePhone", "phone"),
        ("link", "link"),
        ("phone", "phone"),
    ],
)
def test_each_kind_of_location_is_sent_under_its_own_name(kind, name):
    location = Location(LocationType(kind), "there")

    assert location.to_json() == {"type": kind, name: "there"}
    assert "there" not in repr(location)
