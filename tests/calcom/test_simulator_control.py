"""The simulator's own endpoints, and its process."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import requests

from sagajobs.calcom import errors


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("faults", {}),
        ("faults", {"operation": "create", "kind": "drop", "when": "after"}),
        ("faults", {"operation": "create", "kind": "drop", "when": "after", "count": 1, "probability": 0.5}),
        ("faults", {"operation": "create", "kind": "drop", "when": "during", "count": 1}),
        ("faults", {"operation": "move", "kind": "drop", "when": "after", "count": 1}),
        ("faults", {"operation": "create", "kind": "explode", "when": "after", "count": 1}),
        ("faults", {"operation": "create", "kind": "drop", "when": "after", "count": 0}),
        ("faults", {"operation": "create", "kind": "drop", "when": "after", "count": "many"}),
        ("faults", {"operation": "create", "kind": "drop", "when": "after", "probability": 1.1}),
        ("faults", {"operation": "create", "kind": "drop", "when": "after", "probability": 0}),
        ("faults", {"operation": "create", "kind": "drop", "when": "after", "count": 1, "seed": 3}),
        ("faults", {"operation": "create", "kind": "drop", "when": "after", "count": 1, "seconds": 3}),
        ("faults", {"operation": "create", "kind": "drop", "when": "after", "count": 1, "often": True}),
        ("faults", []),
        ("switches", {"lag_ms": -1}),
        ("switches", {"race": "maybe"}),
        ("switches", {"unheard": 1}),
        ("reset", {"world": {}}),
        ("reset", {"world": {"hosts": [], "event_types": []}}),
        ("reset", {"universe": {}}),
        ("reset", {"switches": {"lag_ms": "x"}}),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(simulator, name, body):
    told = simulator.control("POST", name, body, expect=(400,))

    assert told["error"] == "bad control request"
    assert told["problems"]
    assert all(isinstance(problem, str) and problem for problem in told["problems"])
    assert simulator.control("GET", "faults")["faults"] == []


def test_no_json_is_told_too(simulator):
    answer = requests.post(f"{simulator.url}/_simulator/faults", data=b"{", timeout=60)

    assert answer.status_code == 400
    assert answer.json()["problems"] == ["the body is not valid JSON"]


def test_inconsistent_worlds_are_refused(simulator):
    host = {"id": 1, "name": "Host One", "email": "host1@example.com", "username": "host1"}
    event_type = {"id": 1, "slug": "x", "title": "X", "length": 30, "hosts": [1]}
    for event_types in (
        [event_type | {"hosts": [2]}],
        [event_type | {"hosts": []}],
        [event_type | {"lengths": [15]}],
        [event_type, event_type],
    ):
        world = {"hosts": [host], "event_types": event_types}
        simulator.control("POST", "reset", {"world": world}, expect=(400,))
    two = {"hosts": [host, host | {"id": 2}], "event_types": [event_type | {"hosts": [1, 2]}]}
    simulator.control("POST", "reset", {"world": two}, expect=(400,))


def test_switches_are_set_one_by_one(simulator):
    simulator.switch(lag_ms=5)

    assert simulator.switch(race="conflict")["lag_ms"] == 5
    assert simulator.control("GET", "switches")["race"] == "conflict"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_slow_call_from_before_a_reset_does_nothing_after_it(simulator, hasty, client, new, when):
    simulator.fault("create", "slow", when, seconds=1)
    with contextlib.suppress(errors.CalcomOutcomeUnknown):  # where the machine stands still, it has come to its end
        hasty.create_booking(new())
    simulator.reset()
    simulator.fault("any", "slow", seconds=1.1)  # begun after it, and answered after its time
    client.me()

    assert simulator.ledger() == []
    assert [call["operation"] for call in simulator.calls()] == ["me"]


def test_a_reset_forgets_everything(simulator, client, new):
    client.create_booking(new())
    simulator.fault("any", "http_500", count=9)
    simulator.switch(lag_ms=5)

    simulator.reset()

    assert simulator.ledger() == []
    assert simulator.calls() == []
    assert simulator.control("GET", "faults")["faults"] == []
    assert simulator.control("GET", "switches")["lag_ms"] == 0


def test_the_ledger_tells_which_call_did_what(simulator, client, new):
    uid = client.create_booking(new()).uid
    client.cancel_booking(uid, "x")

    (row,) = simulator.ledger()
    made, gone = simulator.calls()
    assert row["uid"] == uid
    assert [(entry["what"], entry["requestId"]) for entry in row["history"]] == [
        ("created", made["request_id"]),
        ("cancelled", gone["request_id"]),
    ]
    assert [entry["at"] for entry in row["history"]] == [row["createdAt"], row["updatedAt"]]


def test_the_record_of_calls_tells_of_faults_but_of_no_queries(simulator, client):
    simulator.fault("list", "drop", "after")
    with pytest.raises(Exception, match="no answer"):
        client.find_bookings(attendee_email="ann@example.com")

    (call,) = simulator.calls()
    assert (call["operation"], call["fault"], call["status"]) == ("list", "drop after", None)
    assert "ann" not in json.dumps(call)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "sagajobs.calcom.simulator", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_even_with_a_silent_call(number):
    with start() as process:
        url = process.stdout.readline().split()[-1]
        rule = {"operation": "any", "kind": "timeout", "count": 1}
        requests.post(f"{url}/_simulator/faults", json=rule, timeout=60)
        address = (urlsplit(url).hostname, urlsplit(url).port)
        with socket.create_connection(address) as silent:
            silent.sendall(b"GET /v2/me HTTP/1.1\r\nHost: x\r\n\r\n")
            while not requests.get(f"{url}/_simulator/faults", timeout=60).json()["faults"][0]["fired"]:
                pass
            process.send_signal(number)
            out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (0, "", "")


def test_other_keys_can_be_accepted():
    with start("--api-key", "cal_a", "--api-key", "cal_b") as process:
        url = process.stdout.readline().split()[-1]
        statuses = [
            requests.get(f"{url}/v2/me", headers={"Authorization": f"Bearer {key}"}, timeout=60).status_code
            for key in ("cal_a", "cal_b", "cal_test_simulator")
        ]
        process.terminate()
        process.communicate(timeout=60)

    assert statuses == [200, 200, 401]


def test_a_port_in_use_is_an_error(simulator):
    port = simulator.url.rsplit(":", 1)[1]
    with start("--port", port) as process:
        _, err = process.communicate(timeout=60)

    assert process.returncode != 0
    assert "Address already in use" in err


CLIENT_ONLY = """
import sys
from datetime import timedelta
import sagajobs.calcom.client
assert not [name for name in sys.modules if "simulator" in name or name.startswith("tornado.web")]
"""
SIMULATOR_ONLY = """
import sys
from datetime import timedelta
import sagajobs.calcom.simulator
names = [name for name in sys.modules if name.startswith("sagajobs.")]
assert all(name == "sagajobs.calcom" or name.startswith("sagajobs.calcom.simulator") for name in names), names
"""


@pytest.mark.parametrize("script", [CLIENT_ONLY, SIMULATOR_ONLY])
def test_client_and_simulator_share_no_code(script):
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_bookings_are_kept_and_put_back_as_they_were(simulator, book, tomorrow):
    cancelled, moved = (book(start=(tomorrow + timedelta(hours=n)).isoformat()).json()["data"]["uid"] for n in (0, 1))
    simulator.api("POST", f"/v2/bookings/{cancelled}/cancel", {"cancellationReason": "x"})
    simulator.api("POST", f"/v2/bookings/{moved}/reschedule", {"start": (tomorrow + timedelta(hours=2)).isoformat()})
    before, kept = simulator.ledger(), simulator.control("GET", "bookings")

    simulator.reset()
    assert simulator.control("PUT", "bookings", kept) == {"bookings": 3}

    assert simulator.ledger() == before
    assert simulator.control("GET", "bookings") == kept
    assert simulator.api("GET", f"/v2/bookings/{cancelled}").json()["data"]["status"] == "cancelled", "the replica too"
    taken = [book(start=(tomorrow + timedelta(hours=n)).isoformat()).status_code for n in (0, 1, 2)]
    assert taken == [201, 201, 400], "a slot is free, or not, as it was"
    assert len({booking["id"] for booking in simulator.ledger()}) == 5
    people = [one["row"]["attendee"]["id"] for one in simulator.control("GET", "bookings")["bookings"]]
    assert len(set(people[-2:]) | set(people[:2])) == 4, "nobody gets another one's id"


def test_what_is_no_booking_is_not_put_back(simulator, book):
    book()
    told = simulator.control("PUT", "bookings", {"bookings": [{"row": {}}]}, expect=(400,))
    assert told["error"] == "bad control request"
    assert len(simulator.ledger()) == 1
