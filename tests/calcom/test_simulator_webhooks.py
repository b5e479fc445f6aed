"""The simulator's webhooks: registering them, what they tell of what, and the ways in which they go wrong."""

import hashlib
import hmac
import json
import queue
import signal
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
import requests

ALL = [
    "BOOKING_CREATED",
    "BOOKING_REQUESTED",
    "BOOKING_RESCHEDULED",
    "BOOKING_CANCELLED",
    "BOOKING_REJECTED",
    "BOOKING_NO_SHOW_UPDATED",
]
PENDING = 7


@pytest.fixture
def hook(simulator, receiver):
    """Register the receiver for everything, or as told."""

    def register(*, signed_by=None, **fields):
        body = {"subscriberUrl": receiver.url, "active": True, "triggers": ALL, "secret": signed_by, **fields}
        return simulator.api("POST", "/v2/webhooks", body, version=None)

    return register


@pytest.fixture
def told(hook, receiver):
    """Register the receiver, and return the next that it is told."""
    hook()
    return lambda: json.loads(receiver.next().body)


def deliveries(simulator):
    return simulator.control("GET", "deliveries")["deliveries"]


def cancel(simulator, uid):
    return simulator.api("POST", f"/v2/bookings/{uid}/cancel", {"cancellationReason": "rain"})


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


class TestOrder:
    def test_the_api_answers_when_the_receiver_has(self, book, hook, receiver):
        hook()
        book()

        assert receiver.received.qsize() == 1

    def test_a_cancellation_is_told_before_the_row_changes(self, book, hook, receiver, simulator):
        hook(triggers=["BOOKING_CANCELLED"])
        uid = book().json()["data"]["uid"]
        seen = []

        def look(_):
            answer = requests.get(
                f"{simulator.url}/v2/bookings/{uid}", headers={"cal-api-version": "2024-08-13"}, timeout=5
            )
            seen.append(answer.json()["data"]["status"])

        receiver.before_answer = look
        answer = cancel(simulator, uid)

        assert seen == ["accepted"]
        assert answer.json()["data"]["status"] == "cancelled"

    def test_of_two_cancels_that_wait_for_the_receiver_the_later_loses(self, book, hook, receiver, simulator):
        hook(triggers=["BOOKING_CANCELLED"])
        uid = book().json()["data"]["uid"]
        first = threading.Event()
        second = []

        def cancel_meanwhile(_):
            if not first.is_set():
                first.set()
                receiver.before_answer = None
                body = {"cancellationReason": "x"}
                headers = {"cal-api-version": "2024-08-13"}
                second.append(
                    requests.post(f"{simulator.url}/v2/bookings/{uid}/cancel", json=body, headers=headers, timeout=5)
                )

        receiver.before_answer = cancel_meanwhile
        answer = cancel(simulator, uid)

        assert second[0].status_code == 200
        assert answer.status_code == 400
        assert answer.json() == {"statusCode": 400, "message": "This booking has already been cancelled."}

    def test_a_reset_meanwhile_leaves_nothing_behind(self, book, hook, receiver, simulator):
        hook(triggers=["BOOKING_CANCELLED"])
        uid = book().json()["data"]["uid"]
        receiver.before_answer = lambda _: requests.post(f"{simulator.url}/_simulator/reset", timeout=5)

        assert cancel(simulator, uid).status_code == 404
        assert simulator.ledger() == []

    def test_with_a_queue_the_answer_comes_first(self, book, hook, receiver, simulator):
        hook()
        simulator.switch(webhooks_before_reply=False)
        answered = threading.Event()
        receiver.before_answer = lambda _: answered.wait(10)

        assert book().status_code == 201
        answered.set()

        assert json.loads(receiver.next().body)["triggerEvent"] == "BOOKING_CREATED"

    def test_with_a_queue_and_no_answer_at_all_it_comes_all_the_same(self, book, hook, receiver, simulator):
        hook()
        simulator.switch(webhooks_before_reply=False)
        simulator.fault("create", "drop", "after")
        with pytest.raises(requests.ConnectionError):
            book()

        assert json.loads(receiver.next().body)["triggerEvent"] == "BOOKING_CREATED"

    def test_a_slow_receiver_holds_up_nobody_else(self, book, hook, receiver, simulator):
        hook(triggers=["BOOKING_CREATED"])
        go_on = threading.Event()
        receiver.before_answer = lambda _: go_on.wait(10)
        waiting = threading.Thread(target=book)
        waiting.start()

        while not simulator.ledger():
            pass
        assert requests.get(f"{simulator.url}/_simulator/counts", timeout=5).json()["operations"].get("create") is None
        go_on.set()
        waiting.join()


class TestAttempts:
    @pytest.mark.parametrize("status", [500, 404, 301])
    def test_there_is_only_one_and_no_redirect_is_followed(self, book, hook, receiver, simulator, status):
        hook()
        receiver.status = status
        receiver.headers = {"Location": receiver.url + "?elsewhere"}

        assert book().status_code == 201

        (delivery,) = deliveries(simulator)
        assert delivery["answers"] == [{"status": status, "error": None}]
        assert receiver.received.qsize() == 1

    def test_a_receiver_that_is_not_there_is_noted(self, book, hook, free_port, simulator):
        hook(subscriberUrl=f"http://127.0.0.1:{free_port}/")

        assert book().status_code == 201

        (delivery,) = deliveries(simulator)
        assert delivery["answers"][0]["status"] is None
        assert "refused" in delivery["answers"][0]["error"]

    def test_what_was_sent_can_be_read_and_sent_again(self, book, hook, receiver, simulator):
        hook(signed_by="s")
        uid = book().json()["data"]["uid"]
        first = receiver.next()

        (delivery,) = deliveries(simulator)
        repeated = simulator.control("POST", f"deliveries/{delivery['id']}/repeat")
        second = receiver.next()

        assert delivery["body"].encode() == first.body == second.body
        assert delivery["signature"] == second.headers["X-Cal-Signature-256"]
        assert (delivery["uid"], delivery["fate"], delivery["webhookId"]) == (uid, "sent", 1)
        assert repeated["answers"] == [{"status": 200, "error": None}] * 2

    def test_what_never_was_cannot_be_sent_again(self, simulator):
        told = simulator.control("POST", "deliveries/7/repeat", expect=(404,))

        assert told["error"]["message"] == "There is no delivery with id 7"


class TestBadHabits:
    def book_three(self, book, tomorrow):
        return [
            book(start=(tomorrow + timedelta(hours=number)).isoformat()).json()["data"]["uid"] for number in range(3)
        ]

    def uids(self, receiver):
        found = []
        while True:
            try:
                found.append(json.loads(receiver.received.get_nowait().body)["payload"]["uid"])
            except queue.Empty:
                return found

    def test_lost(self, book, hook, receiver, simulator, tomorrow):
        hook()
        simulator.switch(webhooks_lost=2)
        one, _, three = self.book_three(book, tomorrow)

        assert self.uids(receiver) == [one, three]
        assert [delivery["fate"] for delivery in deliveries(simulator)] == ["sent", "lost", "sent"]

    def test_doubled(self, book, hook, receiver, simulator, tomorrow):
        hook()
        simulator.switch(webhooks_doubled=3)
        one, two, three = self.book_three(book, tomorrow)

        assert self.uids(receiver) == [one, two, three, three]
        assert len(deliveries(simulator)[2]["answers"]) == 2

    def test_reordered(self, book, hook, receiver, simulator, tomorrow):
        hook()
        simulator.switch(webhooks_reordered=2)
        one, two, three = self.book_three(book, tomorrow)

        assert self.uids(receiver) == [one, three, two]

    def test_all_held_back_until_they_are_let_go(self, book, hook, receiver, simulator, tomorrow):
        hook()
        simulator.switch(webhooks_reordered=1)
        uids = self.book_three(book, tomorrow)
        assert receiver.received.empty()
        assert {delivery["fate"] for delivery in deliveries(simulator)} == {"held"}

        simulator.switch(webhooks_reordered=0)

        assert self.uids(receiver) == uids[::-1]


def test_a_signal_ends_it_cleanly_while_a_receiver_is_silent(receiver):
    silent = threading.Event()
    receiver.before_answer = lambda _: silent.wait(10)
    with subprocess.Popen(
        [sys.executable, "-m", "sagajobs.calcom.simulator", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        url = process.stdout.readline().split()[-1]
        body = {"subscriberUrl": receiver.url, "active": True, "triggers": ["BOOKING_CREATED"]}
        headers = {"Authorization": "Bearer cal_test_simulator", "cal-api-version": "2024-08-13"}
        assert requests.post(f"{url}/v2/webhooks", json=body, headers=headers, timeout=5).ok
        booking = {
            "eventTypeId": 1,
            "start": "2999-01-01T09:00:00Z",
            "attendee": {"name": "Ann", "email": "ann@example.com", "timeZone": "UTC"},
        }
        calling = threading.Thread(target=_call, args=(f"{url}/v2/bookings", booking, headers))
        calling.start()
        while not requests.get(f"{url}/_simulator/deliveries", timeout=5).json()["deliveries"]:
            pass
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        silent.set()
        calling.join()

    assert (process.returncode, out, err) == (0, "", "")


def _call(url, body, headers):
    try:
        requests.post(url, json=body, headers=headers, timeout=10)
    except requests.ConnectionError:
        return
