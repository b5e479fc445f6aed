"""The simulator makes, shows and cancels bookings as Cal.com does, in its words and shapes."""

import time
import uuid
from datetime import timedelta

import pytest

TAKEN = "User either already has booking at this time or is not available"


def error_a(answer):
    """Check for the framework's shape, and return code and message."""
    body = answer.json()
    assert set(body) == {"status", "timestamp", "path", "error"}
    assert body["status"] == "error"
    assert body["error"]["details"]["statusCode"] == answer.status_code
    return body["error"]["code"], body["error"]["message"]


def error_d(answer):
    """Check for the plain shape, and return the message."""
    body = answer.json()
    assert set(body) == {"statusCode", "message"}
    assert body["statusCode"] == answer.status_code
    return body["message"]


class TestCreate:
    def test_the_server_makes_uid_and_id(self, book, tomorrow):
        first = book()
        second = book(start=(tomorrow + timedelta(hours=1)).isoformat())

        assert (first.status_code, second.status_code) == (201, 201)
        one, two = first.json()["data"], second.json()["data"]
        assert first.json()["status"] == "success"
        assert two["id"] > one["id"]
        assert one["uid"] != two["uid"]
        assert one["updatedAt"] is None
        assert one["status"] == "accepted"
        assert one["cancellationReason"] == ""
        assert one["end"] == (tomorrow + timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:00.000Z")

    def test_a_start_with_an_offset_is_converted(self, book, tomorrow):
        shown = book(start=tomorrow.strftime("%Y-%m-%dT11:00:00+02:00")).json()["data"]["start"]

        assert shown == tomorrow.strftime("%Y-%m-%dT09:00:00.000Z")

    def test_an_event_type_may_be_named_by_slug_and_user(self, book):
        answer = book(eventTypeId=..., eventTypeSlug="host2-30min", username="host2")

        assert answer.json()["data"]["eventType"] == {"id": 2, "slug": "host2-30min"}

    def test_no_token_is_needed(self, book):
        assert book(key=None).status_code == 201

    @pytest.mark.parametrize("version", [None, "", '"2024-08-13"', "2026-02-25", "2024-04-15"])
    def test_another_version_leads_nowhere(self, book, version):
        answer = book(version=version)

        assert answer.status_code == 404
        assert error_a(answer) == ("NotFoundException", "Cannot POST /v2/bookings")

    def test_the_reserved_key_of_the_metadata_is_the_location(self, book):
        data = book(metadata={"videoCallUrl": "https://video.example.com/1", "k": "v"}).json()["data"]

        assert data["metadata"] == {"k": "v"}
        assert data["location"] == data["meetingUrl"] == "https://video.example.com/1"

    def test_guests_are_shown_apart_and_among_the_attendees(self, book):
        data = book(guests=["guest@example.com"]).json()["data"]

        assert data["guests"] == ["guest@example.com"]
        assert [one["email"] for one in data["attendees"]] == ["ann@example.com", "guest@example.com"]
        assert data["attendees"][1]["name"] == ""


class TestAvailability:
    @pytest.mark.parametrize("minutes", [-15, 0, 15])
    def test_an_overlap_is_refused_across_event_types(self, book, tomorrow, minutes):
        book()

        answer = book(eventTypeId=6, start=(tomorrow + timedelta(minutes=minutes)).isoformat())

        assert answer.status_code == 400
        assert error_a(answer) == ("BadRequestException", TAKEN)

    @pytest.mark.parametrize("minutes", [-30, 30])
    def test_a_neighbour_is_not_in_the_way(self, book, tomorrow, minutes):
        book()

        assert book(start=(tomorrow + timedelta(minutes=minutes)).isoformat()).status_code == 201

    def test_another_host_is_not_in_the_way(self, book):
        book()

        assert book(eventTypeId=2).status_code == 201

    def test_a_pending_booking_blocks_nothing(self, book):
        assert book(eventTypeId=7).json()["data"]["status"] == "pending"
        assert book(eventTypeId=2).status_code == 201

    def test_an_accepted_booking_blocks_a_pending_one(self, book):
        book(eventTypeId=2)

        assert error_a(book(eventTypeId=7))[1] == TAKEN

    def test_a_cancel_frees_the_slot(self, book, simulator):
        uid = book().json()["data"]["uid"]
        simulator.api("POST", f"/v2/bookings/{uid}/cancel", {"cancellationReason": "x"})

        assert book().status_code == 201

    def test_round_robin_takes_the_next_until_nobody_is_free(self, book):
        attendees = [{"name": "A", "email": f"a{number}@example.com", "timeZone": "UTC"} for number in range(4)]
        answers = [book(eventTypeId=8, attendee=attendee) for attendee in attendees]

        hosts = [answer.json()["data"]["hosts"][0]["id"] for answer in answers[:3]]
        assert sorted(hosts) == [3, 4, 5]
        assert error_a(answers[3])[1].startswith("One of the hosts either already has booking")

    @pytest.mark.parametrize("event_type_id", [7, 8])
    def test_the_same_attendee_and_start_give_the_first_booking(self, book, event_type_id):
        first = book(eventTypeId=event_type_id, metadata={"k": "1"})
        second = book(eventTypeId=event_type_id, metadata={"k": "2"})

        assert second.status_code == 201
        assert second.json()["data"] == first.json()["data"]

    def test_another_attendee_gets_another_pending_booking(self, book):
        other = {"name": "B", "email": "b@example.com", "timeZone": "UTC"}

        first, second = book(eventTypeId=7), book(eventTypeId=7, attendee=other)

        assert first.json()["data"]["uid"] != second.json()["data"]["uid"]

    def test_a_cancelled_booking_is_not_given_back(self, book, simulator):
        uid = book(eventTypeId=7).json()["data"]["uid"]
        simulator.api("POST", f"/v2/bookings/{uid}/cancel", {"cancellationReason": "x"})

        assert book(eventTypeId=7).json()["data"]["uid"] != uid

    def test_racing_calls_meet_the_unique_key(self, book, simulator, tomorrow):
        book()
        simulator.switch(race="conflict")

        answer = book()
        assert answer.status_code == 409
        assert error_d(answer) == "booking_conflict_error"
        # The key is host, start and end: an overlap with other times gets through a race.
        overlap = book(start=(tomorrow + timedelta(minutes=15)).isoformat())
        assert overlap.status_code == 201

        simulator.switch(race="redacted")
        answer = book()
        assert answer.status_code == 400
        assert error_d(answer) == "An error occurred while querying the database."

    def test_a_start_in_the_past(self, book, tomorrow):
        answer = book(start=(tomorrow - timedelta(days=2)).isoformat())

        assert error_a(answer)[1] == "Attempting to book a meeting in the past."


class TestCancel:
    def cancel(self, simulator, uid, *, key="cal_test_simulator", **body):
        return simulator.api("POST", f"/v2/bookings/{uid}/cancel", body, key=key)

    def test_a_reason_is_kept(self, book, simulator):
        uid = book().json()["data"]["uid"]

        answer = self.cancel(simulator, uid, cancellationReason="rain")

        data = answer.json()["data"]
        assert answer.status_code == 200
        assert (data["status"], data["cancellationReason"]) == ("cancelled", "rain")
        assert data["cancelledByEmail"] == "host1@example.com"
        assert data["updatedAt"] is not None

    def test_a_host_must_give_a_reason_and_a_stranger_need_not(self, book, simulator):
        uid = book().json()["data"]["uid"]

        refused = self.cancel(simulator, uid)
        assert (refused.status_code, error_d(refused)) == (400, "Cancellation reason is required")
        assert self.cancel(simulator, uid, key=None).status_code == 200

    def test_a_second_time_is_refused(self, book, simulator):
        uid = book().json()["data"]["uid"]
        self.cancel(simulator, uid, cancellationReason="x")

        answer = self.cancel(simulator, uid, cancellationReason="x")

        assert answer.status_code == 400
        code, message = error_a(answer)
        assert code == "BadRequestException"
        assert message.startswith(f"Can't cancel booking with uid={uid} because it has been cancelled already.")

    def test_an_unknown_uid(self, simulator):
        answer = self.cancel(simulator, "nope", cancellationReason="x")

        assert answer.status_code == 404
        assert error_a(answer) == ("NotFoundException", "Booking with uid=nope not found")

    def test_a_booking_that_is_over(self, book, simulator):
        uid = book().json()["data"]["uid"]
        simulator.switch(clock_offset_seconds=3 * 86400)

        answer = self.cancel(simulator, uid, cancellationReason="x")

        assert (answer.status_code, error_d(answer)) == (
            400,
            "Cannot cancel a booking that has already ended",
        )

    def test_other_refusals(self, book, simulator):
        uid = book().json()["data"]["uid"]

        assert error_a(self.cancel(simulator, uid, seatUid="s", cancellationReason="x"))[1] == "Invalid seatUid: s"
        assert "should not exist" in error_a(self.cancel(simulator, uid, reason="x"))[1]
        wrong = self.cancel(simulator, uid, cancellationReason="x", cancelSubsequentBookings=1)
        assert wrong.status_code == 400

    def test_an_event_type_may_forbid_it(self, book, simulator):
        world = {
            "hosts": [{"id": 1, "name": "Host One", "email": "host1@example.com", "username": "host1"}],
            "event_types": [
                {"id": 1, "slug": "x", "title": "X", "length": 20, "hosts": [1], "cancelling_disabled": True}
            ],
        }
        simulator.reset(world=world)
        data = book().json()["data"]
        assert data["duration"] == 20

        answer = self.cancel(simulator, data["uid"], cancellationReason="x")

        assert error_d(answer) == "This event type does not allow cancellations"

    def test_a_lagging_replica_blinds_it_on_request(self, book, simulator):
        simulator.switch(lag_ms=60_000, lag_blinds_cancel=True)
        uid = book().json()["data"]["uid"]
        assert self.cancel(simulator, uid, cancellationReason="x").status_code == 404

        simulator.switch(lag_ms=0)
        assert self.cancel(simulator, uid, cancellationReason="x").status_code == 200

    def test_a_second_cancel_that_the_replica_lets_through_is_refused_by_the_primary(self, book, simulator):
        uid = book().json()["data"]["uid"]
        simulator.switch(replica_stopped=True, lag_blinds_cancel=True)

        assert self.cancel(simulator, uid, cancellationReason="x").status_code == 200
        answer = self.cancel(simulator, uid, cancellationReason="x")

        assert (answer.status_code, error_d(answer)) == (400, "This booking has already been cancelled.")


class TestReading:
    def test_one_booking_needs_no_token(self, book, simulator):
        made = book().json()["data"]

        answer = simulator.api("GET", f"/v2/bookings/{made['uid']}", key=None)

        assert answer.json() == {"status": "success", "data": made}

    def test_an_unknown_one(self, simulator):
        answer = simulator.api("GET", "/v2/bookings/nope")

        assert answer.status_code == 404
        assert error_a(answer)[1] == "Booking with uid=nope was not found in the database"

    def test_the_replica_shows_states_as_they_were(self, book, simulator):
        uid = book().json()["data"]["uid"]
        simulator.switch(lag_ms=300)
        asked = time.monotonic()
        simulator.api("POST", f"/v2/bookings/{uid}/cancel", {"cancellationReason": "x"})

        states = []
        while not states or states[-1] != "cancelled":
            answer = simulator.api("GET", f"/v2/bookings/{uid}")
            states.append(answer.json()["data"]["status"] if answer.ok else "missing")

        assert time.monotonic() - asked >= 0.3
        assert states == sorted(states, key=["missing", "accepted", "cancelled"].index)

    def test_a_replica_that_stopped_shows_what_was_until_it_goes_on(self, book, simulator):
        uid = book().json()["data"]["uid"]
        simulator.switch(replica_stopped=True)
        later = book(start="2050-09-06T10:00:00.000Z").json()["data"]["uid"]
        simulator.api("POST", f"/v2/bookings/{uid}/cancel", {"cancellationReason": "x"})
        simulator.switch(race="off")  # another switch does not move it on

        assert simulator.api("GET", f"/v2/bookings/{uid}").json()["data"]["status"] == "accepted"
        assert simulator.api("GET", f"/v2/bookings/{later}").status_code == 404

        simulator.switch(replica_stopped=False)
        assert simulator.api("GET", f"/v2/bookings/{uid}").json()["data"]["status"] == "cancelled"
        assert simulator.api("GET", f"/v2/bookings/{later}").status_code == 200

    def test_event_types(self, simulator):
        listed = simulator.api("GET", "/v2/event-types", version="2024-06-14").json()["data"]
        assert [one["id"] for one in listed] == [1, 2, 3, 4, 5, 6, 7]
        own = simulator.api("GET", "/v2/event-types", version="2024-06-14", key=None, username="host1")
        assert [one["id"] for one in own.json()["data"]] == [1, 6]
        one = simulator.api("GET", "/v2/event-types", version="2024-06-14", username="host1", eventSlug="choose-length")
        assert [each["id"] for each in one.json()["data"]] == [6]
        assert simulator.api("GET", "/v2/event-types", version="2024-06-14", key=None).json()["data"] == []
        assert simulator.api("GET", "/v2/event-types/6", version="2024-06-14").json()["data"]["id"] == 6
        assert simulator.api("GET", "/v2/event-types/6", version="2024-06-14", key=None).status_code == 401
        assert simulator.api("GET", "/v2/event-types/6").status_code == 404

    def test_me(self, simulator):
        assert simulator.api("GET", "/v2/me", version=None).json()["data"]["username"] == "host1"
        answer = simulator.api("GET", "/v2/me", key=None)
        assert answer.status_code == 401
        assert error_a(answer)[0] == "UnauthorizedException"


class TestEveryReply:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v2/me"),
            ("GET", "/v2/bookings/nope"),
            ("PATCH", "/v2/bookings/nope"),
            ("DELETE", "/v2/bookings"),
            ("POST", "/v2/bookings/nope/reschedule"),
            ("GET", "/elsewhere"),
            ("POST", "/elsewhere"),
            ("GET", "/_simulator/ledger"),
            ("PUT", "/_simulator/ledger"),
            ("GET", "/_simulator/nothing"),
        ],
    )
    def test_the_server_s_own_request_id_is_on_it(self, simulator, method, path):
        answer = simulator._http.request(method, simulator.url + path, headers={"X-Request-Id": "mine"}, timeout=60)

        assert str(uuid.UUID(answer.headers["X-Request-Id"])) == answer.headers["X-Request-Id"]

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PATCH", "/v2/bookings/nope"),
            ("PUT", "/v2/bookings/nope/metadata"),
            ("GET", "/v2/bookings/nope/cancel?x=1"),
            ("GET", "/v2/unheard-of"),
            ("GET", "/"),
            ("PUT", "/_simulator/ledger"),
        ],
    )
    def test_a_route_that_does_not_exist(self, simulator, method, path):
        answer = simulator.api(method, path)

        assert answer.status_code == 404
        assert error_a(answer) == ("NotFoundException", f"Cannot {method} {path}")
        assert answer.json()["path"] == path

    def test_a_wrong_token_is_refused_even_where_none_is_needed(self, book, simulator):
        for answer in (book(key="cal_x"), simulator.api("GET", "/v2/bookings/nope", key="oauth-token")):
            assert answer.status_code == 401
            assert error_a(answer)[0] == "UnauthorizedException"

    def test_the_old_prefix_is_rewritten(self, simulator):
        assert simulator.api("GET", "/api/v2/me").status_code == 200
        assert simulator.api("GET", "/api/v2/bookings/nope").json()["path"] == "/v2/bookings/nope"
