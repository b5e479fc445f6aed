"""The simulator's bodies are as strict as Cal.com's."""

import pytest


def test_an_unknown_field(book):
    answer = book(idempotencyKey="x")

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "BadRequestException"
    assert error["message"] == "idempotencyKey property is wrong,property idempotencyKey should not exist"


@pytest.mark.parametrize(
    "fields",
    [
        {"start": ...},
        {"start": "tomorrow"},
        {"start": 7},
        {"attendee": ...},
        {"attendee": "Ann"},
        {"attendee": {"email": "a@example.com", "timeZone": "UTC"}},
        {"attendee": {"name": "A", "email": "a@example.com"}},
        {"attendee": {"name": "A", "timeZone": "UTC"}},
        {"attendee": {"name": "A", "timeZone": "Mars/Olympus", "email": "a@example.com"}},
        {"attendee": {"name": "A", "timeZone": "UTC", "email": "a"}},
        {"attendee": {"name": "A", "timeZone": "UTC", "phoneNumber": "123"}},
        {"attendee": {"name": "A", "timeZone": "UTC", "email": "a@example.com", "language": "xx"}},
        {"attendee": {"name": "A", "timeZone": "UTC", "email": "a@example.com", "age": 7}},
        {"eventTypeId": ...},
        {"eventTypeId": "1"},
        {"eventTypeId": True},
        {"guests": ["nobody"]},
        {"location": {"type": "moon"}},
        {"location": {"type": "phone", "phone": "+4915112345678"}},
        {"metadata": []},
        {"metadata": {f"k{number}": "" for number in range(51)}},
        {"metadata": {"k" * 41: ""}},
        {"metadata": {"k": "v" * 501}},
        {"lengthInMinutes": 60},
        {"lengthInMinutes": "30"},
        {"bookingFieldsResponses": "x"},
    ],
)
def test_a_wrong_field(book, simulator, fields):
    answer = book(**fields)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "BadRequestException"
    assert simulator.ledger() == []


@pytest.mark.parametrize("value", [1, True, None, {"a": "b"}])
def test_metadata_that_is_no_string_fails_later(book, value):
    answer = book(metadata={"k": value})

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "BAD_REQUEST"
    assert "details" not in answer.json()["error"]


def test_a_location_the_event_type_has(book):
    assert book(location={"type": "integration", "integration": "cal-video"}).status_code == 201


def test_no_json_is_a_400(simulator):
    answer = simulator._http.post(
        f"{simulator.url}/v2/bookings",
        data=b"{",
        headers={"cal-api-version": "2024-08-13"},
        timeout=60,
    )

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "BadRequestException"


@pytest.mark.parametrize("variant", [{"recurrenceCount": 3}, {"instant": True}])
def test_what_is_not_simulated_says_so(book, variant):
    answer = book(**variant)

    assert answer.status_code == 501
    assert "not simulated" in answer.json()["message"]
