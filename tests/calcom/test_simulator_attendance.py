"""Guests, attendees, and who did not come: the simulator's rules."""

import json

import pytest


@pytest.fixture
def booked(book):
    return book(guests=["guest@example.com"]).json()["data"]


@pytest.fixture
def invite(act):
    """Add guests by address, or as told."""

    def post(uid, *guests):
        body = {"guests": [{"email": one} if isinstance(one, str) else one for one in guests]}
        return act(uid, "guests", body)

    return post


def error(answer, code):
    assert answer.json()["error"]["code"] == code
    return answer.json()["error"]["message"]


def history(simulator):
    (row,) = simulator.ledger()
    return [entry["what"] for entry in row["history"]]


class TestGuests:
    def test_they_are_added(self, booked, invite, simulator):
        answer = invite(
            booked["uid"],
            "b@example.com",
            {"email": "c@example.com", "name": "C", "timeZone": "Asia/Tokyo", "language": "ja"},
        )

        data = answer.json()["data"]
        assert answer.status_code == 200
        assert data["uid"] == booked["uid"]
        assert data["guests"] == ["guest@example.com", "b@example.com", "c@example.com"]
        assert data["attendees"][2]["timeZone"] == "Europe/Berlin"
        assert (data["attendees"][3]["name"], data["attendees"][3]["timeZone"]) == ("C", "Asia/Tokyo")
        assert history(simulator) == ["created", "attendees added"]

    def test_the_list_finds_them(self, booked, invite, simulator):
        invite(booked["uid"], "b@example.com")

        found = simulator.api("GET", "/v2/bookings", attendeeEmail="b@example.com").json()["data"]

        assert [one["uid"] for one in found] == [booked["uid"]]

    def test_who_attends_already_is_left_out(self, booked, invite):
        answer = invite(booked["uid"], "Ann+again@example.com", "b@example.com", "B+x@example.com")

        assert answer.json()["data"]["guests"] == ["guest@example.com", "B+x@example.com"]

    def test_nobody_new(self, booked, invite):
        answer = invite(booked["uid"], "guest@example.com")

        assert (answer.status_code, error(answer, "TRPCError")) == (400, "emails_must_be_unique_valid")

    @pytest.mark.parametrize("count", [0, 11])
    def test_ten_a_call_at_most(self, booked, invite, count):
        answer = invite(booked["uid"], *(f"g{number}@example.com" for number in range(count)))

        assert answer.status_code == 400
        assert "no more than 10" in answer.json()["error"]["message"]

    def test_thirty_attendees_in_all(self, booked, invite):
        for tens in range(2):
            assert invite(booked["uid"], *(f"g{tens}{number}@example.com" for number in range(10))).ok

        answer = invite(booked["uid"], *(f"h{number}@example.com" for number in range(9)))

        assert answer.status_code == 400
        assert error(answer, "BadRequestException") == (
            "Cannot add 9 guests. This booking already has 22 attendees. Maximum total guests allowed is 30. "
            "You can add up to 8 more guests."
        )
        assert invite(booked["uid"], *(f"h{number}@example.com" for number in range(8))).ok

    @pytest.mark.parametrize(
        "guest",
        [
            {},
            {"email": "b"},
            {"email": "b@example.com", "timeZone": "Mars/Olympus"},
            {"email": "b@example.com", "language": "xx"},
            {"email": "b@example.com", "phoneNumber": "123"},
            {"email": "b@example.com", "name": 7},
            7,
        ],
    )
    def test_a_wrong_one(self, booked, invite, guest, simulator):
        assert invite(booked["uid"], guest).status_code == 400
        assert history(simulator) == ["created"]

    def test_an_unknown_booking(self, invite):
        answer = invite("nope", "b@example.com")

        assert (answer.status_code, error(answer, "NotFoundException")) == (404, "Booking with uid nope not found")

    @pytest.mark.usefixtures("foreign")
    def test_somebody_else_s(self, book, invite):
        answer = invite(book().json()["data"]["uid"], "b@example.com")

        assert (answer.status_code, error(answer, "TRPCError")) == (403, "you_do_not_have_permission")


class TestAttendees:
    def test_each_has_an_id(self, booked, act):
        answer = act(booked["uid"], "attendees", method="GET")

        data = answer.json()["data"]
        assert answer.status_code == 200
        assert [one["email"] for one in data] == ["ann@example.com", "guest@example.com"]
        assert data[0]["id"] < data[1]["id"]
        for one in data:
            assert act(booked["uid"], f"attendees/{one['id']}", method="GET").json()["data"] == one

    def test_one_is_added(self, booked, act, simulator):
        body = {"name": "Bob", "email": "b@example.com", "timeZone": "UTC", "phoneNumber": "+4915112345678"}
        answer = act(booked["uid"], "attendees", body)

        data = answer.json()["data"]
        assert answer.status_code == 201
        assert data["bookingId"] == booked["id"]
        assert (data["name"], data["phoneNumber"], data["absent"]) == ("Bob", "+4915112345678", False)
        shown = simulator.api("GET", f"/v2/bookings/{booked['uid']}").json()["data"]
        assert shown["guests"] == ["guest@example.com", "b@example.com"]
        assert shown["attendees"][2]["name"] == "Bob"

    @pytest.mark.parametrize("missing", ["name", "email", "timeZone"])
    def test_what_is_needed_of_one(self, booked, act, missing, simulator):
        body = {"name": "Bob", "email": "b@example.com", "timeZone": "UTC"}
        del body[missing]

        assert act(booked["uid"], "attendees", body).status_code == 400
        assert history(simulator) == ["created"]

    def test_one_is_removed(self, booked, act, simulator):
        _, guest = act(booked["uid"], "attendees", method="GET").json()["data"]

        answer = act(booked["uid"], f"attendees/{guest['id']}", method="DELETE")

        assert answer.status_code == 200
        assert answer.json()["data"] == {
            "id": guest["id"],
            "bookingId": booked["id"],
            "name": "",
            "email": "guest@example.com",
            "timeZone": "Europe/Berlin",
        }
        shown = simulator.api("GET", f"/v2/bookings/{booked['uid']}").json()["data"]
        assert (shown["guests"], len(shown["attendees"])) == ([], 1)
        assert simulator.api("GET", "/v2/bookings", attendeeEmail="guest@example.com").json()["data"] == []
        assert history(simulator) == ["created", "attendee removed"]

    def test_not_who_booked(self, booked, act):
        ann, _ = act(booked["uid"], "attendees", method="GET").json()["data"]

        answer = act(booked["uid"], f"attendees/{ann['id']}", method="DELETE")

        assert (answer.status_code, error(answer, "BadRequestException")) == (400, "cannot_remove_primary_attendee")

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_an_unknown_one(self, booked, act, method):
        assert act(booked["uid"], "attendees/999", method=method).status_code == 404
        assert act(booked["uid"], "attendees/ann", method=method).status_code == 400

    @pytest.mark.parametrize(
        ("method", "what", "status"),
        [("GET", "attendees", 403), ("POST", "attendees", 403), ("DELETE", "attendees/1", 404)],
    )
    def test_an_unknown_booking(self, act, method, what, status):
        body = {"name": "Bob", "email": "b@example.com", "timeZone": "UTC"}

        assert act("nope", what, body, method=method).status_code == status

    @pytest.mark.parametrize(
        ("method", "what"), [("GET", "attendees"), ("POST", "attendees"), ("DELETE", "attendees/1")]
    )
    @pytest.mark.usefixtures("foreign")
    def test_somebody_else_s(self, act, book, method, what):
        uid = book().json()["data"]["uid"]
        body = {"name": "Bob", "email": "b@example.com", "timeZone": "UTC"}

        assert act(uid, what, body, method=method).status_code == 403

    def test_after_a_move_they_are_known_by_address_only(self, booked, act, tomorrow):
        act(booked["uid"], "attendees", {"name": "Bob", "email": "b@example.com", "timeZone": "UTC"})
        start = tomorrow.replace(hour=15).isoformat()

        new = act(booked["uid"], "reschedule", {"start": start}).json()["data"]

        assert [one["email"] for one in new["attendees"]] == ["ann@example.com", "guest@example.com", "b@example.com"]
        assert new["attendees"][2]["name"] == ""


class TestAbsence:
    @pytest.fixture
    def begun(self, booked, simulator):
        simulator.switch(clock_offset_seconds=3 * 86400)
        return booked

    def test_before_the_start(self, booked, act):
        answer = act(booked["uid"], "mark-absent", {"host": True})

        assert answer.status_code == 400
        assert "only be marked as absent after their scheduled start" in error(answer, "BadRequestException")

    def test_a_host_and_an_attendee(self, begun, act, simulator):
        body = {"host": True, "attendees": [{"email": "ann@example.com", "absent": True}]}
        data = act(begun["uid"], "mark-absent", body).json()["data"]

        assert data["absentHost"] is True
        assert [one["absent"] for one in data["attendees"]] == [True, False]
        assert history(simulator) == ["created", "marked absent"]

        body = {"attendees": [{"email": "ann@example.com", "absent": False}]}
        data = act(begun["uid"], "mark-absent", body).json()["data"]
        assert data["absentHost"] is True
        assert [one["absent"] for one in data["attendees"]] == [False, False]

    def test_a_webhook_tells_of_attendees(self, begun, act, simulator, receiver):
        body = {"subscriberUrl": receiver.url, "active": True, "triggers": ["BOOKING_NO_SHOW_UPDATED"]}
        simulator.api("POST", "/v2/webhooks", body)
        act(begun["uid"], "mark-absent", {"host": True})
        absent = [{"email": "ann@example.com", "absent": True}, {"email": "nobody@example.com", "absent": True}]
        act(begun["uid"], "mark-absent", {"attendees": absent})

        payload = json.loads(receiver.next().body)["payload"]

        assert payload == {
            "message": "ann@example.com marked as no-show",
            "bookingUid": begun["uid"],
            "bookingId": begun["id"],
            "attendees": [{"email": "ann@example.com", "noShow": True}],
        }
        assert receiver.received.empty()

    @pytest.mark.parametrize(
        "body",
        [
            {"host": "yes"},
            {"attendees": {}},
            {"attendees": [7]},
            {"attendees": [{"email": "ann@example.com"}]},
            {"attendees": [{"absent": True}]},
        ],
    )
    def test_a_wrong_body(self, begun, act, body, simulator):
        assert act(begun["uid"], "mark-absent", body).status_code == 400
        assert history(simulator) == ["created"]

    def test_an_unknown_booking(self, act):
        answer = act("nope", "mark-absent")

        assert (answer.status_code, error(answer, "NotFoundException")) == (404, "Booking with uid=nope not found.")

    @pytest.mark.usefixtures("foreign")
    def test_somebody_else_s_comes_out_as_an_error(self, act, book, simulator):
        uid = book().json()["data"]["uid"]
        simulator.switch(clock_offset_seconds=3 * 86400)

        answer = act(uid, "mark-absent", {"host": True})

        assert answer.json() == {"statusCode": 500, "message": "Failed to update no-show status"}
