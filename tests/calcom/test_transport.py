"""Answers that only a broken or foreign server gives, over real sockets; threads and forks."""

import contextlib
import gc
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from sagajobs.calcom import errors
from sagajobs.calcom.client import CalcomClient
from tests.support.scripted import http


@pytest.fixture
def tls_url(tmp_path):
    """A TLS server with a certificate that nobody has reason to trust."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1",
         "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def run(listener):
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(60)
            context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        thread = threading.Thread(target=run, args=[listener])
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


BOOKING = b'{"uid":"%b","id":1,"status":"accepted","start":"2030-01-01T09:00:00Z","end":"2030-01-01T09:30:00Z"}'


def enveloped(data):
    return b'{"status":"success","data":' + data + b"}"


UNREADABLE = [
    pytest.param(http(200), id="nothing"),
    pytest.param(http(200, b"<html>maintenance</html>"), id="a page"),
    pytest.param(http(200, b"null"), id="null"),
    pytest.param(http(200, b"[" * 100_000), id="a bottomless pit"),
    pytest.param(http(200, b'{"status":"error","data":{}}'), id="an error in disguise"),
    pytest.param(http(200, enveloped(b"null")), id="no data"),
    pytest.param(http(200, enveloped(b'{"uid":"abc"}')), id="half a booking"),
    pytest.param(http(200, enveloped(BOOKING % b"other")), id="another booking"),
    pytest.param(http(204), id="no content"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{", id="cut off"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz", id="bad gzip"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="bad chunks"),
    pytest.param(b"SSH-2.0-hello\r\n", id="no http"),
    pytest.param(b"", id="nothing at all"),
]


@pytest.fixture
def uncollected():
    """Have nothing be collected meanwhile: at the bottom of a pit there is no stack left for what others leave."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("answer", UNREADABLE)
def test_an_unreadable_success_leaves_a_change_open(scripted, answer):
    with CalcomClient(scripted(answer), "cal_x") as client, pytest.raises(errors.CalcomOutcomeUnknown):
        client.cancel_booking("abc", "x")


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("answer", UNREADABLE)
def test_an_unreadable_read_may_be_tried_again(scripted, answer):
    with CalcomClient(scripted(answer), "cal_x") as client, pytest.raises(errors.CalcomUnavailable):
        client.get_booking("abc")


@pytest.mark.parametrize("data", [b"{}", b'{"bookings":[]}', b'[{"uid":"abc"}]', b"null"])
def test_a_list_of_something_else_is_no_empty_list(scripted, data):
    with (
        CalcomClient(scripted(http(200, enveloped(data))), "cal_x") as client,
        pytest.raises(errors.CalcomUnavailable),
    ):
        client.find_bookings()


def test_a_page_that_comes_again_and_again_proves_nothing(scripted):
    page = http(200, enveloped(b"[" + b",".join([BOOKING % b"abc"] * 250) + b"]"))

    with (
        CalcomClient(scripted(page, page), "cal_x") as client,
        pytest.raises(errors.CalcomUnavailable, match="no end"),
    ):
        client.find_bookings()


def test_a_series_is_refused_when_read_and_open_when_made(scripted, new):
    series = enveloped(b"[" + BOOKING % b"abc" + b"]")

    with CalcomClient(scripted(http(200, series), http(201, series)), "cal_x") as client:
        with pytest.raises(errors.CalcomRefused):
            client.get_booking("abc")
        with pytest.raises(errors.CalcomOutcomeUnknown):
            client.create_booking(new())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(scripted, new, status):
    answer = http(status, b"", "Location: /v2/elsewhere")

    with CalcomClient(scripted(answer, answer), "cal_x") as client:
        with pytest.raises(errors.CalcomOutcomeUnknown):
            client.create_booking(new())
        with pytest.raises(errors.CalcomRefused):
            client.me()
    assert len(scripted.requests) == 2


def test_cookies_are_not_kept(scripted):
    answer = http(200, enveloped(b'{"id":1}'), "Set-Cookie: tracked=1; Path=/")

    with CalcomClient(scripted(answer, answer), "cal_x") as client:
        client.me()
        client.me()
    assert b"tracked" not in scripted.requests[1]


def test_what_is_sent(scripted, new):
    with (
        CalcomClient(scripted(http(500)), "cal_x") as client,
        pytest.raises(errors.CalcomOutcomeUnknown),
    ):
        client.create_booking(new())

    head = scripted.requests[0].decode().lower()
    assert head.startswith("post /v2/bookings http/1.1\r\n")
    assert "\r\nauthorization: bearer cal_x\r\n" in head
    assert "\r\ncontent-type: application/json\r\n" in head
    assert "\r\ncal-api-version: 2024-08-13\r\n" in head


def test_a_certificate_nobody_knows_means_that_nothing_was_sent(tls_url, new):
    with CalcomClient(tls_url, "cal_x", connect_timeout=60) as client, pytest.raises(errors.CalcomUnavailable):
        client.create_booking(new())


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:{port}", "http://"])
def test_a_proxy_out_of_reach_means_that_nothing_was_sent(free_port, new, monkeypatch, proxy):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", proxy.format(port=free_port))

    with CalcomClient("http://cal.example", "cal_x") as client, pytest.raises(errors.CalcomUnavailable):
        client.create_booking(new())


def test_plain_http_on_a_tls_port_gives_no_answer(simulator, new):
    url = simulator.url.replace("http:", "https:")

    with (
        CalcomClient(url, "cal_x", connect_timeout=0.3) as client,
        pytest.raises(errors.CalcomError) as caught,
    ):
        client.create_booking(new())

    assert not isinstance(caught.value, errors.CalcomRefused)


def test_a_refusal_that_quotes_the_attendee_is_quoted_without(scripted, new, secrets):
    booking = new()
    words = f"attendee.name is wrong: {' / '.join(str(part) for part in booking.personal())}"
    body = json.dumps({"statusCode": 400, "message": words}).encode()

    with (
        CalcomClient(scripted(http(400, body)), "cal_x") as client,
        pytest.raises(errors.RefusalInDoubt) as caught,
    ):
        client.create_booking(booking)

    assert "attendee.name is wrong" in str(caught.value)
    assert not [secret for secret in secrets if secret.lower() in str(caught.value).lower()]


def test_an_error_has_neither_cause_nor_context(scripted, new):
    with (
        CalcomClient(scripted(b""), "cal_x") as client,
        pytest.raises(errors.CalcomOutcomeUnknown) as caught,
    ):
        client.create_booking(new())

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "requests" not in "".join(traceback.format_exception_only(caught.value)).lower()


def test_threads_share_a_client(client):
    barrier = threading.Barrier(8)

    def ask(number):
        barrier.wait()
        try:
            return [client.event_type(number % 5 + 1).id for _ in range(20)]
        finally:
            client.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))

    assert answers == [[number % 5 + 1] * 20 for number in range(8)]


FORKING = """
import os, sys
from sagajobs.calcom.client import CalcomClient

client = CalcomClient(sys.argv[1], "cal_test_simulator")
client.me()
child = os.fork()
wanted = 2 if child else 3
for _ in range(100):
    assert client.event_type(wanted).id == wanted
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("each got its own")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_parent_and_child_of_a_fork_share_no_connection(simulator):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, simulator.url],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert done.stdout == "each got its own\n", done.stderr


def test_a_closed_client_opens_again(client):
    client.close()

    assert client.me().id == 1
