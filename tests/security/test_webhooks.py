"""Webhooks that Cal.com has not sent: each is refused in one line that quotes nothing of it, and starts nothing."""

from __future__ import annotations

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from select import select
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from sagajobs.calcom import webhooks
from sagajobs.calcom.errors import WebhookUnsigned
from sagajobs.calcom.webhooks import MAX_BODY, SIGNATURE_HEADER, read_webhook, sign
from sagajobs.testing.waiting import wait_for
from tests.web.conftest import SECRET

MARK = "zebulon-quagmire"
TOLD = {
    "triggerEvent": "BOOKING_CANCELLED",
    "createdAt": "2030-01-01T00:00:00Z",
    "payload": {"uid": "u1", "title": MARK},
}
BODY = json.dumps(TOLD).encode()
RIGHT = sign(BODY, SecretStr(SECRET))


def with_payload(more: bytes) -> bytes:
    """Return the body with raw JSON in its payload."""
    return BODY.replace(b'"uid": "u1"', b'"uid": "u1", "more": ' + more)


SIGNATURES = {
    "none": [],
    "empty": [""],
    "truncated": [RIGHT[:-1]],
    "half": [RIGHT[:32]],
    "longer": [RIGHT + "0"],
    "in capitals": [RIGHT.upper()],
    "twice in one": [RIGHT * 2],
    "two, joined": [f"{RIGHT}, {RIGHT}"],
    "two, both wrong": ["0" * 64, sign(b"other", SecretStr(SECRET))],
    "of another body": [sign(BODY + b" ", SecretStr(SECRET))],
    "of another secret": [sign(BODY, SecretStr(SECRET + "x"))],
    "with its algorithm": [f"sha256={RIGHT}"],
    "no text": ["\xff\xfe"],
    "what Cal.com says without a secret": ["no-secret-provided"],
}
UNREADABLE = {
    "no JSON": b"{" + MARK.encode(),
    "no UTF-8": BODY.replace(b"zebulon", b"\xff\xfe"),
    "half a character": BODY.replace(b"u1", b"\\ud800"),
    "deep": with_payload(b"[" * 200_000 + b"]" * 200_000),
    "deeper in keys": with_payload(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a huge number": with_payload(b"9" * 500_000),
    "created at no number": BODY.replace(b'"2030-01-01T00:00:00Z"', b"NaN"),
    "created at infinity": BODY.replace(b'"2030-01-01T00:00:00Z"', b"1e999"),
    "created at the end of all years": BODY.replace(b"2030-01-01T00:00:00Z", b"9999-12-31T23:59:59-14:00"),
    "a uid with SQL": BODY.replace(b"u1", b"'; DROP TABLE sagas; --"),
    "a uid with a line": BODY.replace(b"u1", b"u1\\nERROR forged line"),
}


@pytest.fixture
def address(own) -> tuple[str, int]:
    url = urlsplit(own.url)
    return url.hostname, url.port


def post(address: tuple[str, int], body: bytes, signatures: list[str]) -> int:
    """Send a body with so many signatures, and return the status."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(len(body)))
    for signature in signatures:
        connection.putheader(SIGNATURE_HEADER, signature)
    connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


def sagas(db) -> int:
    db.rollback()
    return db.execute(text("SELECT count(*) FROM sagas")).scalar_one()


@pytest.fixture
def refused(own, db):
    """Check that what was sent is refused with one line that says nothing of it, and has started nothing."""
    before = len(own.said)

    def check(status: int, expected: int) -> None:
        assert status == expected
        wait_for(lambda: len(own.said) > before)
        lines = own.said[before:]
        assert len(lines) == 1
        assert "webhook refused: " in lines[0]
        assert MARK not in lines[0]
        assert SECRET not in lines[0]
        assert sagas(db) == 0

    return check


@pytest.mark.parametrize("signatures", SIGNATURES)
def test_a_forged_signature_is_refused(address, refused, signatures):
    refused(post(address, BODY, SIGNATURES[signatures]), 401)


@pytest.mark.parametrize("body", UNREADABLE)
def test_what_is_signed_and_cannot_be_read_is_refused(address, refused, body):
    refused(post(address, UNREADABLE[body], [sign(UNREADABLE[body], SecretStr(SECRET))]), 400)


def test_a_key_twice_is_read_once(address, db):
    """The signature covers both, so Cal.com itself has written both."""
    body = BODY.replace(b'"uid": "u1"', b'"uid": "../x", "uid": "u1"')
    assert post(address, body, [sign(body, SecretStr(SECRET))]) == 200
    assert sagas(db) == 0


def test_the_comparison_takes_the_same_time_whatever_is_compared(monkeypatch):
    """`compare_digest` alone decides: it is asked about the whole signature, and what it says is done."""
    asked: list[tuple[bytes, bytes]] = []

    def says(*, answer: bool):
        def compare(ours: bytes, theirs: bytes) -> bool:
            asked.append((ours, theirs))
            return answer

        monkeypatch.setattr(webhooks.hmac, "compare_digest", compare)

    says(answer=True)
    assert read_webhook(BODY, "wrong", SecretStr(SECRET)).uid == "u1"
    says(answer=False)
    with pytest.raises(WebhookUnsigned):
        read_webhook(BODY, RIGHT, SecretStr(SECRET))
    assert asked == [(RIGHT.encode(), b"wrong"), (RIGHT.encode(), RIGHT.encode())]


def raw(address: tuple[str, int], request: bytes) -> bytes:
    """Send bytes, and return the first line of what comes back; nothing if the line is cut."""
    with socket.create_connection(address, timeout=60) as line:
        line.sendall(request)
        return line.recv(100).partition(b"\r\n")[0]


def test_a_length_that_is_too_short_is_no_second_request(address, db):
    """What is left over would be a request of its own: whoever could append to a body could forge one."""
    head = f"POST / HTTP/1.1\r\nHost: x\r\n{SIGNATURE_HEADER}: {RIGHT}\r\nContent-Length: {len(BODY) - 5}\r\n\r\n"
    assert b" 401 " in raw(address, head.encode() + BODY)
    assert sagas(db) == 0


@pytest.mark.parametrize(
    "lengths",
    ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 5\r\nContent-Length: 7", "Content-Length: -1"],
)
def test_two_lengths_are_none(address, lengths):
    assert raw(address, f"POST / HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n0\r\n\r\n".encode()) in (
        b"HTTP/1.1 400 Bad Request",
        b"",
    )


def test_a_body_without_end_is_refused(address, own):
    """In chunks, none of which says how many are to come: more than `MAX_BODY` is not kept."""
    with socket.create_connection(address, timeout=60) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3 * MAX_BODY // 65536):
            line.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        line.sendall(b"0\r\n\r\n")
        assert b" 413 " in line.recv(100)


def test_many_slow_bodies_keep_nobody_waiting_and_are_cut_off(address, own):
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"

    def overtaken() -> bool:
        with ExitStack() as lines, ThreadPoolExecutor(50) as threads:
            slow = [lines.enter_context(socket.create_connection(address, timeout=60)) for _ in range(50)]
            for line in slow:
                line.sendall(head)
            assert own.post(b'{"triggerEvent": "PING"}').ok
            none_was_cut_off = select(slow, [], [], 0)[0] == []
            assert set(threads.map(lambda line: line.recv(100), slow)) == {b""}
        return none_was_cut_off

    wait_for(overtaken, 5)  # at once, unless all stands still for as long as a body may take
