"""A simulator in a process of its own, for all tests of this folder, wiped before each."""

import itertools
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from sagajobs.calcom import shared as shared_module
from sagajobs.calcom.circuit import Circuit
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.gate import Gate
from sagajobs.calcom.models import NewBooking
from sagajobs.calcom.shared import Shared
from tests.support.ownredis import OwnRedis
from tests.support.scripted import request

API_KEY = "cal_test_simulator"

TRIGGERS = [
    "BOOKING_CREATED",
    "BOOKING_REQUESTED",
    "BOOKING_RESCHEDULED",
    "BOOKING_CANCELLED",
    "BOOKING_REJECTED",
    "BOOKING_NO_SHOW_UPDATED",
]

# Whatever a test does with these, none of it may be seen in logs, errors or reprs.
ATTENDEE = {
    "attendee_name": "Zebulon Quagmire",
    "attendee_email": "zebulon+x@quagmire.example",
    "attendee_phone": "+4915112345678",
    "attendee_time_zone": "Europe/Berlin",
    "notes": "allergic to penguins",
}


class Simulator:
    """A running simulator, by its control endpoints."""

    def __init__(self, url):
        self.url = url
        self._http = requests.Session()

    def close(self):
        self._http.close()

    def control(self, method, name, body=None, *, expect=(200, 201)):
        answer = self._http.request(method, f"{self.url}/_simulator/{name}", json=body, timeout=60)
        assert answer.status_code in expect, answer.text
        return answer.json()

    def ledger(self):
        return self.control("GET", "ledger")["bookings"]

    def calls(self):
        return self.control("GET", "requests")["requests"]

    def fault(self, operation, kind, when="before", **more):
        if "probability" not in more:
            more.setdefault("count", 1)
        body = {"operation": operation, "kind": kind, "when": when, **more}
        return self.control("POST", "faults", body)

    def switch(self, **switches):
        return self.control("POST", "switches", switches)

    def reset(self, **body):
        self.control("POST", "reset", body)

    def api(self, method, path, body=None, *, version="2024-08-13", key=API_KEY, **query):
        headers = {}
        if version:
            headers["cal-api-version"] = version
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return self._http.request(method, self.url + path, json=body, params=query, headers=headers, timeout=60)


@dataclass
class Received:
    """One request that a receiver of webhooks got."""

    path: str
    headers: dict
    body: bytes


@dataclass
class Receiver:
    """A server that webhooks are sent to; `status` is what it answers, `before_answer` what it does first."""

    url: str
    status: int = 200
    headers: dict = field(default_factory=dict)
    before_answer: object = None
    received: queue.Queue = field(default_factory=queue.Queue)

    def next(self):
        """Return the next request, waiting for it."""
        return self.received.get(timeout=60)


@pytest.fixture
def receiver():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got = Received(self.path, dict(self.headers), body)
            if receiver.before_answer:
                receiver.before_answer(got)
            receiver.received.put(got)
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def running_simulator():
    with subprocess.Popen(
        [sys.executable, "-m", "sagajobs.calcom.simulator", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("sagajobs simulator listening on http://127.0.0.1:"), line
        simulator = Simulator(line.split()[-1])
        yield simulator
        simulator.close()
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


@pytest.fixture
def simulator(running_simulator):
    running_simulator.reset()
    return running_simulator


@pytest.fixture
def client(simulator):
    with CalcomClient(simulator.url, API_KEY, connect_timeout=2, read_timeout=60) as client:
        yield client


@pytest.fixture
def hasty(simulator):
    """A client that gives up after a fifth of a second: for calls that are to fail, as any does on a slow machine."""
    with CalcomClient(simulator.url, API_KEY, connect_timeout=2, read_timeout=0.2) as client:
        yield client


@pytest.fixture
def scripted():
    """Serve bytes as they are, one answer per connection, and keep what was asked."""
    sockets, threads, requests = [], [], []

    def serve(*answers):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(60)
        sockets.append(listener)

        def run():
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(60)
                    requests.append(request(connection))
                    connection.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    serve.requests = requests
    yield serve
    for thread in threads:
        thread.join()
    for one in sockets:
        one.close()


@pytest.fixture(autouse=True)
def patient_with_redis(monkeypatch):
    """A Redis that stands still with the machine is not away."""
    monkeypatch.setattr(shared_module, "TIMEOUT", 60)


@pytest.fixture
def redis_url():
    from sagajobs.root import servers

    return servers().redis


@pytest.fixture
def key():
    """An API key of the test's own, and so names of its own in Redis."""
    return f"cal_test_{uuid.uuid4().hex}"


@pytest.fixture
def shared(redis_url, key):
    return Shared(lambda: redis_url, key)


@pytest.fixture
def own_redis(tmp_path):
    """A Redis of the test's own, to be killed, frozen and looked through."""
    with OwnRedis(tmp_path) as server:
        yield server


@pytest.fixture
def free_port():
    """A port that nothing listens on, and nobody else gets."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def tomorrow():
    return datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=1)


@pytest.fixture
def new(tomorrow):
    """Make bookings of event type 1, each at another time unless told otherwise."""
    hours = itertools.count()

    def make(**fields):
        start = tomorrow + timedelta(hours=next(hours))
        return NewBooking(**{"event_type_id": 1, "start": start, **ATTENDEE, **fields})

    return make


@pytest.fixture
def secrets():
    """Everything that must not be seen: the key, and all about the attendee, as plain text and in URLs."""
    return [
        API_KEY,
        "Zebulon",
        "Quagmire",
        "quagmire.example",
        "zebulon%2Bx",
        "4915112345678",
        "penguins",
    ]


@pytest.fixture
def act(simulator):
    """Do something with a booking: POST /v2/bookings/{uid}/{what}."""

    def post(uid, what, body=None, *, method="POST", key="cal_test_simulator", version="2024-08-13"):
        return simulator.api(method, f"/v2/bookings/{uid}/{what}", body or {}, key=key, version=version)

    return post


@pytest.fixture
def foreign(simulator):
    """A world in which the owner of the key has no rights: event type 1 is somebody else's."""
    hosts = [
        {"id": number, "name": f"Host {number}", "email": f"host{number}@example.com", "username": f"host{number}"}
        for number in (1, 2)
    ]
    event_type = {"id": 1, "slug": "x", "title": "X", "length": 30, "hosts": [2], "foreign": True}
    simulator.reset(world={"hosts": hosts, "event_types": [event_type | {"requires_confirmation": True}]})


@pytest.fixture
def book(simulator, tomorrow):
    """POST a booking of event type 1 for tomorrow; fields given replace or add."""

    def post(*, key="cal_test_simulator", version="2024-08-13", **fields):
        attendee = {"name": "Ann Attendee", "email": "ann@example.com", "timeZone": "Europe/Berlin"}
        body = {"eventTypeId": 1, "start": tomorrow.isoformat(), "attendee": attendee, **fields}
        body = {name: value for name, value in body.items() if value is not ...}
        return simulator.api("POST", "/v2/bookings", body, key=key, version=version)

    return post


@pytest.fixture
def hook(simulator, receiver):
    """Register the receiver for everything, or as told."""

    def register(*, signed_by=None, **fields):
        body = {"subscriberUrl": receiver.url, "active": True, "triggers": TRIGGERS, "secret": signed_by, **fields}
        return simulator.api("POST", "/v2/webhooks", body, version=None)

    return register


@pytest.fixture
def told(hook, receiver):
    """Register the receiver, and return the next that it is told."""
    hook()
    return lambda: json.loads(receiver.next().body)


@pytest.fixture
def circuit(shared):
    """A circuit that stays open, and has a trial last, for longer than a test; see `await_trial`."""
    return Circuit(shared, failures=3, reset=60, longest_call=300)


@pytest.fixture
def guarded(simulator, circuit):
    """A client behind the circuit."""
    with CalcomClient(simulator.url, API_KEY, read_timeout=60, gate=Gate(circuit=circuit)) as client:
        yield client


@pytest.fixture
def hasty_guarded(simulator, circuit):
    """The same, hasty."""
    with CalcomClient(simulator.url, API_KEY, read_timeout=0.5, gate=Gate(circuit=circuit)) as client:
        yield client
