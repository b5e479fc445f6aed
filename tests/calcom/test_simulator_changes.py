"""Confirm, decline, reassign and relocate: the simulator's rules, their gaps included."""

from datetime import timedelta

import pytest

PENDING, ROUND_ROBIN = 7, 8
VERSIONS = [None, "2026-02-25", "2024-04-15"]


def attendee(number):
    return {"name": f"A {number}", "email": f"a{number}@example.com", "timeZone": "UTC"}


def error(answer, code):
    """Check for the shape with an error inside, and return the message."""
    assert answer.json()["status"] == "error"
    assert answer.json()["error"]["code"] == code
    return answer.json()["error"]["message"]


def history(simulator, uid):
    row = next(one for one in simulator.ledger() if one["uid"] == uid)
    return [entry["what"] for entry in row["history"]]


@pytest.fixture
def pending(book):
    return book(eventTypeId=PENDING).json()["data"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ["confirm", "decline", "reassign", "mark-absent", "guests", "attendees"])
def test_another_version_leads_nowhere(book, act, what, version):
    assert act(book().json()["data"]["uid"], what, version=version).status_code == 404


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("POST", "confirm"),
        ("POST", "decline"),
        ("POST", "reassign"),
        ("POST", "reassign/3"),
        ("POST", "mark-absent"),
        ("POST", "guests"),
        ("POST", "attendees"),
        ("GET", "attendees"),
        ("GET", "attendees/1"),
        ("DELETE", "attendees/1"),
        ("PATCH", "location"),
    ],
)
def test_a_token_is_needed(book, act, method, what):
    answer = act(book().json()["data"]["uid"], what, method=method, key=None)

    assert answer.status_code == 401
    assert error(answer, "UnauthorizedException") == "Unauthorized"


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("what", ["", "/metadata"])
def test_metadata_cannot_be_changed(book, simulator, method, what):
    uid = book(metadata={"k": "v"}).json()["data"]["uid"]

    answer = simulator.api(method, f"/v2/bookings/{uid}{what}", {"metadata": {"k": "w"}})

    assert answer.status_code == 404
    assert simulator.api("GET", f"/v2/bookings/{uid}").json()["data"]["metadata"] == {"k": "v"}


class TestConfirm:
    def test_a_pending_booking_is_accepted(self, act, pending, simulator):
        answer = act(pending["uid"], "confirm")

        data = answer.json()["data"]
        assert answer.status_code == 200
        assert (data["status"], data["uid"]) == ("accepted", pending["uid"])
        assert data["updatedAt"] is not None
        assert history(simulator, pending["uid"]) == ["created", "confirmed"]

    def test_then_the_slot_is_taken(self, act, pending, book):
        act(pending["uid"], "confirm")

        assert book(eventTypeId=2).status_code == 400

    @pytest.mark.parametrize("what", ["confirm", "decline"])
    def test_an_accepted_one_is_refused(self, act, book, what):
        answer = act(book().json()["data"]["uid"], what)

        assert answer.status_code == 400
        assert error(answer, "TRPCError") == "Booking already confirmed"
        assert "details" not in answer.json()["error"]

    @pytest.mark.parametrize("what", ["confirm", "decline"])
    def test_an_unknown_one(self, act, what):
        answer = act("nope", what)

        assert answer.status_code == 404
        assert error(answer, "NotFoundException") == "Booking with uid=nope was not found in the database"

    @pytest.mark.parametrize("what", ["confirm", "decline"])
    @pytest.mark.usefixtures("foreign")
    def test_somebody_else_s(self, act, book, what):
        answer = act(book().json()["data"]["uid"], what)

        assert answer.status_code == 401
        assert error(answer, "TRPCError") == "User is not authorized to confirm this booking"

    def test_two_at_one_time_can_both_be_confirmed(self, act, book, simulator):
        uids = [book(eventTypeId=PENDING, attendee=attendee(number)).json()["data"]["uid"] for number in range(2)]

        assert [act(uid, "confirm").status_code for uid in uids] == [200, 200]
        assert {row["status"] for row in simulator.ledger()} == {"accepted"}

    def test_one_is_confirmed_over_a_taken_slot(self, act, pending, book):
        assert book(eventTypeId=2).status_code == 201

        assert act(pending["uid"], "confirm").json()["data"]["status"] == "accepted"

    def test_even_a_cancelled_one_is_confirmed(self, act, pending):
        act(pending["uid"], "cancel", {"cancellationReason": "x"})

        assert act(pending["uid"], "confirm").json()["data"]["status"] == "accepted"

    def test_one_that_was_confirmed_can_be_cancelled_and_the_slot_is_free(self, act, pending, book):
        act(pending["uid"], "confirm")
        act(pending["uid"], "cancel", {"cancellationReason": "x"})

        assert book(eventTypeId=2).status_code == 201


class TestDecline:
    def test_a_pending_booking_is_rejected(self, act, pending, simulator):
        answer = act(pending["uid"], "decline", {"reason": "away"})

        assert answer.status_code == 200
        assert answer.json()["data"]["status"] == "rejected"
        assert history(simulator, pending["uid"]) == ["created", "declined"]

    def test_a_wrong_reason(self, act, pending):
        assert act(pending["uid"], "decline", {"reason": 7}).status_code == 400

    def test_the_replica_shows_it_late(self, act, pending, simulator):
        simulator.switch(lag_ms=2000)
        while not simulator.api("GET", f"/v2/bookings/{pending['uid']}").ok:
            pass

        assert act(pending["uid"], "decline").json()["data"]["status"] == "pending"
        assert simulator.ledger()[0]["status"] == "rejected"


class TestReassign:
    @pytest.fixture
    def robin(self, book):
        return book(eventTypeId=ROUND_ROBIN).json()["data"]

    def test_whoever_is_free_gets_it(self, act, robin, book, simulator):
        host = robin["hosts"][0]["id"]
        busy, free = (one for one in (3, 4, 5) if one != host)
        book(eventTypeId=busy)

        answer = act(robin["uid"], "reassign")

        new = {"id": free, "name": f"Host {('Three', 'Four', 'Five')[free - 3]}", "email": f"host{free}@example.com"}
        assert answer.status_code == 200
        assert answer.json()["data"] == {
            "bookingUid": robin["uid"],
            "reassignedTo": {**new, "displayEmail": new["email"]},
        }
        shown = simulator.api("GET", f"/v2/bookings/{robin['uid']}").json()["data"]
        assert (shown["start"], shown["end"], shown["status"]) == (robin["start"], robin["end"], "accepted")
        assert shown["hosts"][0]["id"] == free
        assert new["name"] in shown["title"]
        assert history(simulator, robin["uid"]) == ["created", "reassigned"]

    def test_nobody_else_is_free(self, act, robin, book):
        for host in {3, 4, 5} - {robin["hosts"][0]["id"]}:
            book(eventTypeId=host)

        answer = act(robin["uid"], "reassign")

        assert answer.status_code == 400
        assert (
            error(answer, "BadRequestException")
            == "Can't reassign the booking because no other host is available at that time."
        )

    def test_a_chosen_host_gets_it_free_or_not(self, act, robin, book):
        busy = next(one for one in (3, 4, 5) if one != robin["hosts"][0]["id"])
        book(eventTypeId=busy)

        answer = act(robin["uid"], f"reassign/{busy}", {"reason": "x"})

        assert answer.json()["data"]["reassignedTo"]["id"] == busy

    def test_and_back_again(self, act, robin):
        act(robin["uid"], "reassign")

        back = act(robin["uid"], f"reassign/{robin['hosts'][0]['id']}")

        assert back.json()["data"]["reassignedTo"]["id"] == robin["hosts"][0]["id"]

    def test_the_host_who_gave_it_away_is_free_again(self, act, robin, book):
        act(robin["uid"], "reassign")

        assert book(eventTypeId=robin["hosts"][0]["id"]).status_code == 201

    def test_two_of_one_time_cannot_be_given_to_one_host(self, act, book):
        first, second = (book(eventTypeId=ROUND_ROBIN, attendee=attendee(number)).json()["data"] for number in range(2))
        other = ({3, 4, 5} - {first["hosts"][0]["id"], second["hosts"][0]["id"]}).pop()
        assert act(first["uid"], f"reassign/{other}").ok

        answer = act(second["uid"], f"reassign/{other}")

        assert answer.status_code == 409
        assert error(answer, "CONFLICT")

    @pytest.mark.parametrize(
        ("host", "status", "message"),
        [
            (1, 400, "User with id=1 is not a valid Round Robin host"),
            (99, 404, "User with id=99 was not found in the database"),
        ],
    )
    def test_who_cannot_be_chosen(self, act, robin, host, status, message):
        answer = act(robin["uid"], f"reassign/{host}")

        assert answer.status_code == status
        assert answer.json()["error"]["message"].startswith(message)

    def test_only_a_round_robin_can_be_reassigned(self, act, book):
        uid = book().json()["data"]["uid"]

        assert "no other host" in error(act(uid, "reassign"), "BadRequestException")
        assert "not a valid Round Robin host" in error(act(uid, "reassign/1"), "BadRequestException")

    def test_an_unknown_one(self, act):
        assert act("nope", "reassign").status_code == 404

    @pytest.mark.usefixtures("foreign")
    def test_somebody_else_s(self, act, book):
        answer = act(book().json()["data"]["uid"], "reassign")

        assert answer.status_code == 403
        assert error(answer, "ForbiddenException") == "You do not have permission to reassign this booking"


class TestLocation:
    def patch(self, act, uid, location):
        return act(uid, "location", {"location": location}, method="PATCH")

    @pytest.mark.parametrize(
        ("location", "expected"),
        [
            ({"type": "address", "address": "1 High Street"}, "1 High Street"),
            ({"type": "attendeeAddress", "address": "2 High Street"}, "2 High Street"),
            ({"type": "attendeeDefined", "location": "the pub"}, "the pub"),
            ({"type": "attendeePhone", "phone": "+4915112345678"}, "+4915112345678"),
            ({"type": "phone", "phone": "+4915112345678"}, "+4915112345678"),
            ({"type": "link", "link": "https://video.example.com/2"}, "https://video.example.com/2"),
        ],
    )
    def test_it_is_replaced(self, act, book, simulator, location, expected):
        uid = book(metadata={"videoCallUrl": "https://video.example.com/1", "k": "v"}).json()["data"]["uid"]

        answer = self.patch(act, uid, location)

        data = answer.json()["data"]
        assert answer.status_code == 200
        assert data["location"] == data["meetingUrl"] == expected
        assert data["metadata"] == {"k": "v"}
        assert history(simulator, uid) == ["created", "relocated"]

    def test_the_service_s_own_video(self, act, book):
        made = book().json()["data"]
        self.patch(act, made["uid"], {"type": "link", "link": "https://video.example.com/2"})

        answer = self.patch(act, made["uid"], {"type": "integration", "integration": "cal-video"})

        assert answer.json()["data"]["location"] == made["location"]

    @pytest.mark.parametrize(
        "location",
        [
            {"type": "moon"},
            {"type": "organizersDefaultApp"},
            {"type": "link"},
            {"type": "link", "link": 7},
            {"type": "integration", "integration": "zoom"},
            "https://video.example.com/2",
        ],
    )
    def test_a_wrong_one(self, act, book, simulator, location):
        made = book().json()["data"]

        assert self.patch(act, made["uid"], location).status_code == 400
        assert simulator.api("GET", f"/v2/bookings/{made['uid']}").json()["data"] == made

    def test_none_changes_nothing(self, act, book):
        made = book().json()["data"]

        assert self.patch(act, made["uid"], None).json()["data"] == made

    def test_an_unknown_booking(self, act):
        answer = self.patch(act, "nope", {"type": "link", "link": "x"})

        assert (answer.status_code, error(answer, "NotFoundException")) == (404, "Booking with uid=nope not found")

    @pytest.mark.usefixtures("foreign")
    def test_somebody_else_s(self, act, book):
        answer = self.patch(act, book().json()["data"]["uid"], {"type": "link", "link": "x"})

        assert answer.status_code == 403
        assert error(answer, "ForbiddenException").startswith("User is not authorized to update this booking location")


@pytest.mark.parametrize("operation", ["confirm", "decline"])
def test_faults_strike_them_by_name(act, pending, simulator, operation):
    simulator.fault(operation, "http_500", "after")

    assert act(pending["uid"], operation).status_code == 500
    assert simulator.ledger()[0]["status"] == {"confirm": "accepted", "decline": "rejected"}[operation]


def test_a_booking_that_is_over_is_not_cancelled_but_moved(act, book, simulator, tomorrow):
    uid = book().json()["data"]["uid"]
    simulator.switch(clock_offset_seconds=3 * 86400)

    assert act(uid, "cancel", {"cancellationReason": "x"}).status_code == 400
    assert act(uid, "reschedule", {"start": (tomorrow + timedelta(days=9)).isoformat()}).status_code == 201
