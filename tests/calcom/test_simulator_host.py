"""What hosts do past the API: the simulator changes the booking, and sends what Cal.com would send."""

from datetime import timedelta

import pytest

from sagajobs.calcom.simulator.notices import SENT

PENDING, ROUND_ROBIN = 7, 8


@pytest.fixture
def host(simulator):
    """Do something as the host."""

    def act(what, uid, *, expect=(200,), **fields):
        return simulator.control("POST", f"host/{what}", {"uid": uid, **fields}, expect=expect)

    return act


@pytest.fixture
def triggers(simulator, receiver):
    """Register a receiver, and tell what it was sent since."""
    body = {"subscriberUrl": receiver.url, "active": True, "triggers": list(SENT)}
    assert simulator.api("POST", "/v2/webhooks", body).ok

    def sent():
        return [(one["trigger"], one["uid"]) for one in simulator.control("GET", "deliveries")["deliveries"]]

    return sent


def history(simulator, uid):
    row = next(one for one in simulator.ledger() if one["uid"] == uid)
    return [entry["what"] for entry in row["history"]]


def test_a_cancel(book, host, triggers, simulator):
    uid = book(eventTypeId=2).json()["data"]["uid"]

    shown = host("cancel", uid, reason="ill")

    assert (shown["status"], shown["cancellationReason"]) == ("cancelled", "ill")
    assert shown["cancelledByEmail"] == "host2@example.com"
    assert triggers() == [("BOOKING_CREATED", uid), ("BOOKING_CANCELLED", uid)]
    assert history(simulator, uid) == ["created", "cancelled"]


def test_a_move(book, host, triggers, tomorrow, simulator):
    uid = book(eventTypeId=PENDING).json()["data"]["uid"]
    start = tomorrow + timedelta(days=1)

    shown = host("move", uid, start=start.isoformat())

    assert shown["status"] == "accepted"
    assert shown["rescheduledFromUid"] == uid
    assert shown["rescheduledByEmail"] == "host2@example.com"
    assert shown["start"] == start.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert triggers()[1:] == [("BOOKING_RESCHEDULED", shown["uid"])]
    assert history(simulator, uid) == ["created", "rescheduled"]


def test_a_confirmation(book, host, triggers, simulator):
    uid = book(eventTypeId=PENDING).json()["data"]["uid"]

    assert host("confirm", uid)["status"] == "accepted"
    assert triggers() == [("BOOKING_REQUESTED", uid), ("BOOKING_CREATED", uid)]
    assert history(simulator, uid) == ["created", "confirmed"]


def test_a_decline(book, host, triggers, simulator):
    uid = book(eventTypeId=PENDING).json()["data"]["uid"]

    assert host("decline", uid)["status"] == "rejected"
    assert triggers()[1:] == [("BOOKING_REJECTED", uid)]
    assert history(simulator, uid) == ["created", "declined"]


def test_a_reassignment_of_which_nothing_is_told(book, host, triggers, simulator):
    made = book(eventTypeId=ROUND_ROBIN).json()["data"]

    shown = host("reassign", made["uid"])

    assert shown["uid"] == made["uid"]
    assert shown["hosts"] != made["hosts"]
    assert host("reassign", made["uid"], host=made["hosts"][0]["id"])["hosts"] == made["hosts"]
    assert triggers() == [("BOOKING_CREATED", made["uid"])]
    assert history(simulator, made["uid"]) == ["created", "reassigned", "reassigned"]


def test_with_a_queue_it_is_told_all_the_same(book, host, triggers, simulator, receiver):
    simulator.switch(webhooks_before_reply=False)
    uid = book(eventTypeId=PENDING).json()["data"]["uid"]
    receiver.next()

    host("confirm", uid)

    assert uid.encode() in receiver.next().body


@pytest.mark.parametrize("act", ["cancel", "move", "reassign", "confirm", "decline"])
def test_an_unknown_booking(host, act, tomorrow):
    fields = {"start": tomorrow.isoformat()} if act == "move" else {}

    refused = host(act, "nope", expect=(404,), **fields)

    assert refused["error"]["message"] == "Booking with uid=nope was not found in the database"


@pytest.mark.parametrize(
    ("act", "fields"),
    [
        ("cancel", {"because": "x"}),
        ("move", {}),
        ("move", {"start": "soon"}),
        ("move", {"start": "2999-01-01T09:00:00"}),
        ("reassign", {"host": "me"}),
        ("confirm", {"uid": 7}),
    ],
)
def test_a_wrong_body(book, simulator, act, fields):
    body = {"uid": book().json()["data"]["uid"], **fields}

    told = simulator.control("POST", f"host/{act}", body, expect=(400,))

    assert told["error"] == "bad control request"


def test_the_rules_hold_for_hosts_too(book, host):
    uid = book().json()["data"]["uid"]
    host("cancel", uid)

    assert "has been cancelled already" in host("cancel", uid, expect=(400,))["error"]["message"]


def test_the_calls_of_the_api_are_not_mixed_with_them(book, host, simulator):
    host("cancel", book().json()["data"]["uid"])

    assert [call["operation"] for call in simulator.calls()] == ["create"]
