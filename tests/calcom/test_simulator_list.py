"""GET /v2/bookings of the simulator: filters, views, order, pages, and its wrong counts."""

from datetime import datetime, timedelta

import pytest


@pytest.fixture
def listed(simulator):
    def ask(**query):
        answer = simulator.api("GET", "/v2/bookings", **query)
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["data"]]

    return ask


@pytest.fixture
def five(simulator, tomorrow):
    """Five bookings an hour apart: 1 and 2 accepted, 3 pending, 4 cancelled, 5 of another attendee."""

    def post(number, **fields):
        attendee = {"name": "Ann", "email": fields.pop("email", "ann@example.com"), "timeZone": "UTC"}
        start = (tomorrow + timedelta(hours=number)).isoformat()
        body = {"eventTypeId": 1, "start": start, "attendee": attendee, **fields}
        answer = simulator.api("POST", "/v2/bookings", body)
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]

    rows = [
        post(1),
        post(2, guests=["guest@example.com"]),
        post(3, eventTypeId=7),
        post(4),
        post(5, email="other@example.com", eventTypeId=2),
    ]
    simulator.api("POST", f"/v2/bookings/{rows[3]['uid']}/cancel", {"cancellationReason": "x"})
    return rows


@pytest.mark.usefixtures("five")
def test_all_of_them_by_start(listed):
    assert listed() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"attendeeEmail": "ann@example.com"}, [1, 2, 3, 4]),
        ({"attendeeEmail": "guest@example.com"}, [2]),
        ({"attendeeEmail": "Ann@example.com"}, []),
        ({"attendeeEmail": "ann"}, []),
        ({"attendeeName": "Ann"}, [1, 2, 3, 4, 5]),
        ({"attendeeName": "ann"}, []),
        ({"eventTypeId": "1"}, [1, 2, 4]),
        ({"eventTypeIds": "2,7"}, [3, 5]),
        ({"teamId": "1"}, []),
        ({"status": "upcoming"}, [1, 2, 3, 5]),
        ({"status": "cancelled"}, [4]),
        ({"status": "unconfirmed"}, [3]),
        ({"status": "past"}, []),
        ({"status": "recurring"}, []),
        ({"status": "cancelled,unconfirmed"}, [3, 4]),
        ({"sortStart": "desc"}, [5, 4, 3, 2, 1]),
        ({"sortCreated": "desc"}, [5, 4, 3, 2, 1]),
        ({"sortUpdatedAt": "desc", "attendeeEmail": "ann@example.com"}, [4, 3, 2, 1]),
        ({"take": "2"}, [1, 2]),
        ({"take": "2", "skip": "3"}, [4, 5]),
        ({"skip": "9"}, []),
        ({"unheard": "of"}, [1, 2, 3, 4, 5]),
    ],
)
@pytest.mark.usefixtures("five")
def test_what_a_query_selects(listed, query, expected):
    assert listed(**query) == expected


def test_one_by_uid(five, listed):
    assert listed(bookingUid=five[1]["uid"]) == [2]


def test_bounds_belong_to_their_range(five, listed):
    second = five[1]

    assert listed(afterStart=second["start"], beforeEnd=second["end"]) == [2]
    just_after = datetime.fromisoformat(second["start"]) + timedelta(milliseconds=1)
    assert listed(afterStart=just_after.isoformat()) == [3, 4, 5]
    assert listed(afterCreatedAt=five[4]["createdAt"])[-1] == 5
    assert listed(beforeCreatedAt=five[0]["createdAt"])[0] == 1
    assert listed(afterUpdatedAt=five[0]["createdAt"]) == [4]
    assert listed(beforeUpdatedAt=five[0]["createdAt"]) == []


@pytest.mark.usefixtures("five")
def test_what_is_over_is_past(simulator, listed):
    simulator.switch(clock_offset_seconds=3 * 86400)

    assert listed(status="past") == [1, 2, 3, 5]
    assert listed(status="upcoming,unconfirmed") == []


@pytest.mark.usefixtures("five")
def test_the_counts(simulator):
    pages = simulator.api("GET", "/v2/bookings", take=2, skip=2).json()["pagination"]

    assert pages == {
        "totalItems": 5,
        "remainingItems": 1,
        "returnedItems": 2,
        "itemsPerPage": 2,
        "currentPage": 2,
        "totalPages": 3,
        "hasNextPage": True,
        "hasPreviousPage": True,
    }


@pytest.mark.usefixtures("five")
def test_the_counts_ignore_when_things_were_created_and_changed(simulator):
    body = simulator.api("GET", "/v2/bookings", afterUpdatedAt="2020-01-01T00:00:00Z", take=1).json()

    assert [row["id"] for row in body["data"]] == [4]
    assert body["pagination"]["totalItems"] == 5
    assert body["pagination"]["hasNextPage"]
    rest = simulator.api("GET", "/v2/bookings", afterUpdatedAt="2020-01-01T00:00:00Z", take=1, skip=1).json()
    assert rest["data"] == []
    assert rest["pagination"]["returnedItems"] == 1


def test_pages_count_from_nothing_when_there_is_nothing(simulator):
    pages = simulator.api("GET", "/v2/bookings").json()["pagination"]

    assert (pages["currentPage"], pages["totalPages"], pages["hasNextPage"]) == (0, 0, False)


@pytest.mark.parametrize(
    "query",
    [
        {"take": "0"},
        {"take": "251"},
        {"take": "x"},
        {"skip": "-1"},
        {"status": "accepted"},
        {"sortStart": "up"},
        {"afterStart": "yesterday"},
        {"eventTypeId": "x"},
    ],
)
def test_a_wrong_query(simulator, query):
    answer = simulator.api("GET", "/v2/bookings", **query)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == ("BadRequestException", "Bad Request Exception")
    assert len(error["details"]["errors"]) == 1
    assert next(iter(query)) in error["details"]["errors"][0]


def test_a_token_is_needed(simulator):
    assert simulator.api("GET", "/v2/bookings", key=None).status_code == 401


@pytest.mark.parametrize("version", [None, "2026-02-25", '"2024-08-13"'])
@pytest.mark.usefixtures("five")
def test_another_version_ignores_the_filters(simulator, version):
    answer = simulator.api("GET", "/v2/bookings", version=version, attendeeEmail="other@example.com", take=4)

    assert [row["id"] for row in answer.json()["data"]] == [1, 2, 3, 4]

    simulator.switch(fallback="not_found")
    assert simulator.api("GET", "/v2/bookings", version=version).status_code == 404


def test_the_longest_page(simulator, tomorrow, listed):
    for number in range(101):
        body = {
            "eventTypeId": 1,
            "start": (tomorrow + timedelta(hours=number)).isoformat(),
            "attendee": {"name": "Ann", "email": "ann@example.com", "timeZone": "UTC"},
        }
        simulator.api("POST", "/v2/bookings", body)

    assert len(listed()) == 100
    assert len(listed(take="250")) == 101
