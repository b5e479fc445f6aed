"""The simulator's webhooks on their way: when they are sent, how often, and the ways in which they go wrong."""

import json
import queue
import signal
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
import requests

from tests.support.webhooks import cancel, deliveries


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
                f"{simulator.url}/v2/bookings/{uid}", headers={"cal-api-version": "2024-08-13"}, timeout=60
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
                    requests.post(f"{simulator.url}/v2/bookings/{uid}/cancel", json=body, headers=headers, timeout=60)
                )

        receiver.before_answer = cancel_meanwhile
        answer = cancel(simulator, uid)

        assert second[0].status_code == 200
        assert answer.status_code == 400
        assert answer.json() == {"statusCode": 400, "message": "This booking has already been cancelled."}

    def test_a_reset_meanwhile_leaves_nothing_behind(self, book, hook, receiver, simulator):
        hook(triggers=["BOOKING_CANCELLED"])
        uid = book().json()["data"]["uid"]
        receiver.before_answer = lambda _: requests.post(f"{simulator.url}/_simulator/reset", timeout=60)

        assert cancel(simulator, uid).status_code == 404
        assert simulator.ledger() == []

    def test_with_a_queue_the_answer_comes_first(self, book, hook, receiver, simulator):
        hook()
        simulator.switch(webhooks_before_reply=False)
        answered = threading.Event()
        receiver.before_answer = lambda _: answered.wait(60)

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
        receiver.before_answer = lambda _: go_on.wait(60)
        waiting = threading.Thread(target=book)
        waiting.start()

        while not simulator.ledger():
            pass
        assert requests.get(f"{simulator.url}/_simulator/counts", timeout=60).json()["operations"].get("create") is None
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
    receiver.before_answer = lambda _: silent.wait(120)
    with subprocess.Popen(
        [sys.executable, "-m", "sagajobs.calcom.simulator", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        url = process.stdout.readline().split()[-1]
        body = {"subscriberUrl": receiver.url, "active": True, "triggers": ["BOOKING_CREATED"]}
        headers = {"Authorization": "Bearer cal_test_simulator", "cal-api-version": "2024-08-13"}
        assert requests.post(f"{url}/v2/webhooks", json=body, headers=headers, timeout=60).ok
        booking = {
            "eventTypeId": 1,
            "start": "2999-01-01T09:00:00Z",
            "attendee": {"name": "Ann", "email": "ann@example.com", "timeZone": "UTC"},
        }
        calling = threading.Thread(target=_call, args=(f"{url}/v2/bookings", booking, headers))
        calling.start()
        while not requests.get(f"{url}/_simulator/deliveries", timeout=60).json()["deliveries"]:
            pass
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        silent.set()
        calling.join()

    assert (process.returncode, out, err) == (0, "", "")


def _call(url, body, headers):
    try:
        requests.post(url, json=body, headers=headers, timeout=60)
    except requests.ConnectionError:
        return
