"""The simulator's webhooks: registering them, and what they tell whom."""

import hashlib
import hmac
from datetime import timedelta

import pytest

from tests.support.webhooks import cancel, deliveries

PENDING = 7


class TestRegistering:
    def test_made_shown_and_dropped(self, simulator, hook, receiver):
        made = hook(signed_by="s3", triggers=["BOOKING_CREATED"])

        assert made.status_code == 201
        data = made.json()["data"]
        assert data == {
            "id": 1,
            "userId": 1,
            "subscriberUrl": receiver.url,
            "active": True,
            "triggers": ["BOOKING_CREATED"],
            "payloadTemplate": "",
            "secret": "s3",
        }
        assert simulator.api("GET", "/v2/webhooks").json()["data"] == [data]
        assert simulator.api("GET", "/v2/webhooks/1").json()["data"] == data
        assert simulator.api("DELETE", "/v2/webhooks/1").json()["data"] == data
        assert simulator.api("GET", "/v2/webhooks").json()["data"] == []
        for method in ("GET", "DELETE"):
            answer = simulator.api(method, "/v2/webhooks/1")
            assert (answer.status_code, answer.json()["error"]["message"]) == (404, "Webhook (1) not found")

    def test_a_url_is_registered_once(self, hook):
        hook()

        answer = hook(triggers=["BOOKING_CANCELLED"])

        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "ConflictException"
        assert answer.json()["error"]["message"] == "Webhook with this subscriber url already exists for this user"

    @pytest.mark.parametrize(
        "fields",
        [
            {"triggers": ["BOOKING_CONFIRMED"]},
            {"triggers": "BOOKING_CREATED"},
            {"triggers": None},
            {"active": "yes"},
            {"active": None},
            {"subscriberUrl": "ftp://example.com"},
            {"subscriberUrl": "nowhere"},
            {"subscriberUrl": None},
            {"secret": 7},
            {"version": "2026-07-27"},
        ],
    )
    def test_a_wrong_body(self, simulator, hook, fields):
        answer = hook(**fields)

        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "Bad Request Exception"
        assert next(iter(fields)) in answer.json()["error"]["details"]["errors"][0]
        assert simulator.api("GET", "/v2/webhooks").json()["data"] == []

    def test_a_template_is_not_simulated(self, hook):
        assert hook(payloadTemplate="{}").status_code == 501

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v2/webhooks"),
            ("GET", "/v2/webhooks"),
            ("GET", "/v2/webhooks/1"),
            ("DELETE", "/v2/webhooks/1"),
        ],
    )
    def test_a_token_is_needed(self, simulator, method, path):
        assert simulator.api(method, path, {}, key=None).status_code == 401


class TestSignature:
    def test_the_raw_body_is_signed(self, book, hook, receiver):
        hook(signed_by="geheim")
        attendee = {"name": "Änne Löw", "email": "anne@example.com", "timeZone": "Europe/Berlin"}
        book(attendee=attendee)

        got = receiver.next()

        expected = hmac.new(b"geheim", got.body, hashlib.sha256).hexdigest()
        assert got.headers["X-Cal-Signature-256"] == expected
        assert got.headers["X-Cal-Webhook-Version"] == "2021-10-20"
        assert got.headers["Content-Type"] == "application/json"
        assert "Änne Löw".encode() in got.body

    def test_without_a_secret_words_stand_for_it(self, book, hook, receiver):
        hook()
        book()

        assert receiver.next().headers["X-Cal-Signature-256"] == "no-secret-provided"


class TestPayloads:
    def test_a_booking(self, book, told, tomorrow):
        data = book(metadata={"saga": "s-1"}, guests=["guest@example.com"]).json()["data"]

        body = told()

        assert set(body) == {"triggerEvent", "createdAt", "payload"}
        assert body["triggerEvent"] == "BOOKING_CREATED"
        payload = body["payload"]
        assert payload["metadata"] == {"saga": "s-1", "videoCallUrl": data["location"]}
        assert (payload["uid"], payload["bookingId"]) == (data["uid"], data["id"])
        assert payload["startTime"] == tomorrow.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert (payload["eventTypeId"], payload["type"]) == (1, "host1-30min")
        assert (payload["status"], payload["length"], payload["iCalUID"]) == ("ACCEPTED", 30, data["icsUid"])
        assert [one["email"] for one in payload["attendees"]] == ["ann@example.com", "guest@example.com"]
        assert payload["organizer"]["email"] == "host1@example.com"
        assert payload["responses"]["email"]["value"] == "ann@example.com"
        assert payload["location"] == data["location"]

    def test_a_request_and_its_confirmation_which_has_lost_the_metadata(self, book, told, simulator):
        data = book(eventTypeId=PENDING, metadata={"saga": "s-1"}).json()["data"]
        requested = told()
        simulator.control("POST", "host/confirm", {"uid": data["uid"]})
        confirmed = told()

        assert requested["triggerEvent"] == "BOOKING_REQUESTED"
        assert requested["payload"]["status"] == "PENDING"
        assert requested["payload"]["metadata"] == {"saga": "s-1"}
        assert confirmed["triggerEvent"] == "BOOKING_CREATED"
        assert confirmed["payload"]["status"] == "ACCEPTED"
        assert confirmed["payload"]["metadata"] == {"videoCallUrl": data["location"]}

    def test_a_decline(self, book, told, simulator):
        uid = book(eventTypeId=PENDING, metadata={"saga": "s-1"}).json()["data"]["uid"]
        told()
        simulator.control("POST", "host/decline", {"uid": uid, "reason": "away"})

        body = told()

        assert (body["triggerEvent"], body["payload"]["status"]) == ("BOOKING_REJECTED", "REJECTED")
        assert body["payload"]["rejectionReason"] == "away"
        assert "metadata" not in body["payload"]

    def test_a_cancellation(self, book, told, simulator):
        uid = book(metadata={"saga": "s-1"}).json()["data"]["uid"]
        told()
        cancel(simulator, uid)

        body = told()

        assert (body["triggerEvent"], body["payload"]["status"]) == ("BOOKING_CANCELLED", "CANCELLED")
        assert body["payload"]["uid"] == uid
        assert body["payload"]["cancellationReason"] == "rain"
        assert body["payload"]["cancelledBy"] == "host1@example.com"
        assert body["payload"]["requestReschedule"] is False
        assert "metadata" not in body["payload"]

    def test_a_move_has_the_new_uid_and_nothing_is_told_of_the_old_one(self, book, told, simulator, tomorrow, receiver):
        old = book(metadata={"saga": "s-1"}).json()["data"]
        told()
        start = (tomorrow + timedelta(hours=2)).isoformat()
        new = simulator.api("POST", f"/v2/bookings/{old['uid']}/reschedule", {"start": start}).json()["data"]

        payload = told()["payload"]

        assert [one["trigger"] for one in deliveries(simulator)] == ["BOOKING_CREATED", "BOOKING_RESCHEDULED"]
        assert (payload["uid"], payload["bookingId"]) == (new["uid"], new["id"])
        assert (payload["rescheduleUid"], payload["rescheduleId"]) == (old["uid"], old["id"])
        assert payload["rescheduleStartTime"] == old["start"].replace(".000Z", "Z")
        assert payload["rescheduleEndTime"] == old["end"].replace(".000Z", "Z")
        assert payload["metadata"]["saga"] == "s-1"
        assert receiver.received.empty()

    def test_a_move_that_needs_confirmation_is_a_request(self, book, told, simulator, tomorrow):
        uid = book(eventTypeId=PENDING, metadata={"saga": "s-1"}).json()["data"]["uid"]
        told()
        start = (tomorrow + timedelta(hours=2)).isoformat()
        simulator.api("POST", f"/v2/bookings/{uid}/reschedule", {"start": start})

        body = told()

        assert body["triggerEvent"] == "BOOKING_REQUESTED"
        assert body["payload"]["metadata"] == {"saga": "s-1"}

    def test_a_repeated_call_that_gets_the_first_booking_tells_nothing(self, book, told, receiver):
        for _ in range(2):
            book(eventTypeId=PENDING)

        assert told()["triggerEvent"] == "BOOKING_REQUESTED"
        assert receiver.received.empty()

    def test_a_refused_call_tells_nothing(self, book, hook, simulator):
        hook()
        book()
        book()

        assert len(deliveries(simulator)) == 1


class TestWhoIsTold:
    def test_only_what_was_subscribed_to(self, book, hook, simulator):
        hook(triggers=["BOOKING_CANCELLED"])
        cancel(simulator, book().json()["data"]["uid"])

        assert [one["trigger"] for one in deliveries(simulator)] == ["BOOKING_CANCELLED"]

    def test_nobody_who_is_not_active(self, book, hook, simulator):
        hook(active=False)
        book()

        assert deliveries(simulator) == []

    def test_everybody_else(self, book, hook, receiver, simulator):
        hook(signed_by="a")
        hook(signed_by="b", subscriberUrl=receiver.url + "?second")
        book()

        got = [receiver.next(), receiver.next()]

        assert {one.path for one in got} == {"/hook", "/hook?second"}
        assert got[0].body == got[1].body
        assert got[0].headers["X-Cal-Signature-256"] != got[1].headers["X-Cal-Signature-256"]

    def test_nobody_about_bookings_that_are_somebody_else_s(self, book, hook, simulator):
        host = {"id": 1, "name": "Host One", "email": "host1@example.com", "username": "host1"}
        event_type = {"id": 1, "slug": "x", "title": "X", "length": 30, "hosts": [1], "foreign": True}
        simulator.reset(world={"hosts": [host], "event_types": [event_type]})
        hook()
        uid = book().json()["data"]["uid"]

        assert deliveries(simulator) == []
        assert simulator.api("GET", "/v2/bookings").json()["data"] == []
        assert simulator.api("GET", f"/v2/bookings/{uid}").ok
