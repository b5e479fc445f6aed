"""The receiver in a process of its own: by itself, in a WSGI server, in an ASGI server; and requests as Cal.com's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from sagajobs.calcom.webhooks import SIGNATURE_HEADER, sign

SECRET = os.environ["SAGAJOBS_CALCOM_WEBHOOK_SECRET"]

_WSGI = """
from wsgiref.simple_server import make_server
from sagajobs.web import webhook_wsgi
server = make_server("127.0.0.1", 0, webhook_wsgi)
print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
"""

COMMANDS = {
    "own": [str(Path(sys.executable).parent / "sagajobs"), "webhooks", "--port", "0"],
    "wsgi": [sys.executable, "-c", _WSGI],
    "asgi": [sys.executable, "-m", "uvicorn", "sagajobs.web:webhook_asgi", "--port", "0", "--lifespan", "off"],
}


class Receiver:
    """A receiver by its URL; `said` is what it has printed."""

    def __init__(self, url: str, said: list[str]) -> None:
        self.url = url
        self.said = said

    def post(self, body: bytes | Iterator[bytes], signature: str | None = None) -> requests.Response:
        """Send a body, signed as Cal.com would unless a signature is given."""
        signature = signature or sign(body, SecretStr(SECRET))
        return requests.post(self.url, data=body, headers={SIGNATURE_HEADER: signature}, timeout=60)

    def tell(self, trigger: str, uid: str, created: str = "2030-01-01T00:00:00.000Z", **payload) -> requests.Response:
        document = {"triggerEvent": trigger, "createdAt": created, "payload": {"uid": uid, **payload}}
        return self.post(json.dumps(document).encode())


@contextmanager
def _running(kind: str, environment: dict[str, str]) -> Iterator[Receiver]:
    with subprocess.Popen(
        COMMANDS[kind],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if "http://" in line:
                break
        else:
            raise AssertionError("".join(said))
        url = next(word for word in line.split() if word.startswith("http://"))
        reading = threading.Thread(target=lambda: said.extend(process.stdout))
        reading.start()
        try:
            yield Receiver(url, said)
        finally:
            process.terminate()
            process.wait(60)
            reading.join(60)


@pytest.fixture(scope="module")
def serve(app_engine) -> Iterator[Callable[..., Receiver]]:
    """Start receivers, kept for all tests of a module."""
    with ExitStack() as running:

        def start(kind: str = "own", **environment: str) -> Receiver:
            return running.enter_context(_running(kind, environment))

        yield start


@pytest.fixture(scope="module")
def own(serve) -> Receiver:
    """What `sagajobs webhooks` runs."""
    return serve()
