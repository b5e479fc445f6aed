"""What the receiver answers, over a real socket: by itself, in a WSGI server and in an ASGI server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests
from pydantic import SecretStr
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentFollowSaga, SagaHandle
from sagajobs.calcom.webhooks import MAX_BODY, SIGNATURE_HEADER, sign
from tests.web.conftest import COMMANDS, SECRET

PERSON = "zebulon@quagmire.example"


@pytest.fixture(scope="module", params=list(COMMANDS))
def receiver(request, serve):
    return serve(request.param)


def answer(response: requests.Response) -> tuple[int, dict]:
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, response.json()


@pytest.mark.usefixtures("clean")
def test_what_nobody_follows_is_taken_all_the_same(receiver):
    assert answer(receiver.post(b'{"triggerEvent": "MEETING_STARTED", "id": 5}')) == (200, {"webhook": "ignored"})
    assert answer(receiver.tell("BOOKING_CANCELLED", "elsewhere")) == (200, {"webhook": "ignored"})


def test_a_signature_that_is_missing_or_wrong_is_refused(receiver):
    body = b'{"triggerEvent": "BOOKING_CREATED"}'
    status, said = answer(receiver.post(body, "no-secret-provided"))
    assert (status, "signature" in said["error"]) == (401, True)
    assert answer(requests.post(receiver.url, data=body, timeout=60))[0] == 401
    header = {SIGNATURE_HEADER.lower(): sign(body + b" ", SecretStr(SECRET))}
    assert answer(requests.post(receiver.url, data=body, headers=header, timeout=60))[0] == 401


def test_the_name_of_the_header_may_be_written_in_any_case(receiver):
    body = b'{"triggerEvent": "PING"}'
    for name in (SIGNATURE_HEADER.lower(), SIGNATURE_HEADER.upper()):
        sent = requests.post(receiver.url, data=body, headers={name: sign(body, SecretStr(SECRET))}, timeout=60)
        assert sent.status_code == 200


def test_what_cannot_be_read_is_told_without_quoting_it(receiver):
    status, said = answer(receiver.tell("BOOKING_CREATED", PERSON, attendees=[{"email": PERSON}]))
    assert (status, said) == (400, {"error": "no readable webhook of Cal.com's: uid"})
    assert "quagmire" not in "".join(receiver.said)


def test_too_large_is_refused_before_anything(receiver):
    assert answer(receiver.post(b" " * (MAX_BODY + 1), "x"))[0] == 413
    assert answer(receiver.post(b" " * MAX_BODY, "x"))[0] == 401


def test_another_method_is_told_which_one(receiver):
    for method in ("GET", "PUT", "DELETE"):
        refused = requests.request(method, receiver.url, timeout=60)
        assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")


def chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


@pytest.mark.parametrize("length", ["-1", "many", "٣", "9" * 5000])
def test_a_length_that_is_none_is_refused_before_anything_is_read(serve, length):
    """A negative one, read as it stands, means all there is to come: no bound, and no end."""
    url = urlsplit(serve("wsgi").url)
    with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        assert connection.recv(100).split()[1] == (b"413" if length.startswith("9") else b"400")


@pytest.mark.parametrize("receiver", ["own", "asgi"], indirect=True)  # wsgiref takes no chunked bodies
def test_a_body_may_come_in_chunks(receiver):
    body = b'{"triggerEvent": "PING"}' + b" " * 300_000
    assert receiver.post(chunks(body), sign(body, SecretStr(SECRET))).status_code == 200
    assert receiver.post(chunks(b" " * (MAX_BODY + 1)), "x").status_code == 413


def test_a_caller_who_goes_in_the_middle_harms_nobody(receiver):
    host, _, port = receiver.url.removeprefix("http://").strip("/").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert receiver.post(b'{"triggerEvent": "PING"}').status_code == 200


def test_one_webhook_many_times_at_once_is_one_saga(receiver, booking, simulator, db):
    """A real booking, cancelled, and told of by forty copies of one message."""
    made = AppointmentCreationSaga.run(booking())
    uid = made.calcom_v2_booking_id
    simulator.host("cancel", uid)
    with ThreadPoolExecutor(4) as threads:
        answers = [answer(sent) for sent in threads.map(lambda _: receiver.tell("BOOKING_CANCELLED", uid), range(40))]
    assert sorted((status, said["webhook"]) for status, said in answers) == [
        (200, "followed"),
        *[(200, "known")] * 39,
    ]
    row = db.execute(text("SELECT input, id FROM sagas WHERE name = 'appointment_follow'")).one()
    assert row.input == {
        "appointment_id": made.id,
        "booking_uid": uid,
        "trigger": "BOOKING_CANCELLED",
        "seen": "2030-01-01T00:00:00.000Z",
    }
    AppointmentFollowSaga.engine.drive(AppointmentFollowSaga, str(row.id))
    assert SagaHandle(str(row.id)).result() == {"changed": True}


@pytest.fixture
def nowhere() -> Iterator[int]:
    """A port that is bound and that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_without_a_database_it_says_so(serve, nowhere, kind):
    away = serve(
        kind,
        SAGAJOBS_DATABASE_URL=f"postgresql://nobody@127.0.0.1:{nowhere}/nothing",
        SAGAJOBS_CALCOM_URL="http://127.0.0.1:1",
        SAGAJOBS_CALCOM_API_KEY="key",
    )
    assert answer(away.tell("BOOKING_CANCELLED", "x")) == (503, {"error": "the database is away"})
    assert answer(away.post(b'{"triggerEvent": "PING"}'))[0] == 200, "needs none"
    assert answer(away.post(b"", "x"))[0] == 401


def test_without_a_secret_nothing_is_taken(serve):
    open_to_all = serve("wsgi", SAGAJOBS_CALCOM_WEBHOOK_SECRET="")
    assert answer(open_to_all.tell("BOOKING_CANCELLED", "x")) == (503, {"error": "the receiver is not set up"})


def test_without_a_secret_the_server_does_not_start():
    done = subprocess.run(
        COMMANDS["own"],
        env=os.environ | {"SAGAJOBS_CALCOM_WEBHOOK_SECRET": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: SAGAJOBS_CALCOM_WEBHOOK_SECRET: is missing; set it to the secret that Cal.com's webhook was given\n"
    )


def test_a_port_that_is_taken_is_one_line(own):
    port = own.url.strip("/").rpartition(":")[2]
    done = subprocess.run([*COMMANDS["own"][:-1], port], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n")


def test_a_body_of_json_is_what_is_signed(own):
    """Signed as one document, sent as the same one written otherwise."""
    document = {"triggerEvent": "PING", "createdAt": "x"}
    signature = sign(json.dumps(document).encode(), SecretStr(SECRET))
    assert own.post(json.dumps(document, indent=2).encode(), signature).status_code == 401
