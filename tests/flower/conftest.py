"""A real Flower for our application, in a process of its own, and what its pages show."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path

import pytest
import requests

from sagajobs import AppointmentCreationSaga, SagaHandle
from sagajobs.saga import RetryPolicy
from sagajobs.testing import nursery
from sagajobs.testing.waiting import wait_for
from tests.support.sagas import record

LOGIN = ("ann", "a password")

_WITHIN = 20


class Flower:
    """A Flower by its address."""

    def __init__(self, url: str, log: Path, auth: tuple[str, str] | None) -> None:
        self.url = url
        self.log = log
        self.auth = auth

    def get(self, path: str, **options) -> requests.Response:
        return requests.get(self.url + path, timeout=_WITHIN, **{"auth": self.auth, **options})

    def post(self, path: str, **form: str) -> requests.Response:
        """Send a form as a browser would that has been shown one."""
        with requests.Session() as session:
            session.auth = self.auth
            session.get(self.url + "/sagas", timeout=_WITHIN)
            form = {"_xsrf": session.cookies.get("_xsrf", ""), **form}
            return session.post(self.url + path, data=form, timeout=_WITHIN, allow_redirects=False)


@contextmanager
def running(
    *options: str, app: str = "sagajobs", auth: tuple[str, str] | None = LOGIN, **environment: str
) -> Iterator[Flower]:
    """Run `celery -A sagajobs flower`, or another application's, until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "flower.log"
        arguments = ["celery", "-A", app, "flower", "--address=127.0.0.1", "--port=0", *options]
        if auth is not None:
            arguments.append(f"--basic-auth={auth[0]}:{auth[1]}")
        variables = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(Path.cwd())])}
        process = nursery.start(
            "celery.__main__:main", arguments, folder=Path(folder), environment=variables | environment, out=log
        )
        try:
            wait_for(lambda: _port(log) or not process.is_alive(), _WITHIN)
            assert process.is_alive(), log.read_text()
            prefix = next((one.partition("=")[2] for one in options if one.startswith("--url-prefix=")), "")
            yield Flower(f"http://127.0.0.1:{_port(log)}" + (f"/{prefix}" if prefix else ""), log, auth)
        finally:
            process.terminate()
            process.join(10)
            process.kill()
            process.join()


def _port(log: Path) -> str | None:
    said = log.read_text() if log.exists() else ""
    found = re.search(r"Visit me at https?://[^:]+:(\d+)", said)
    return found[1] if found else None


@pytest.fixture(scope="module")
def start_flower(app_engine) -> Iterator[Callable[..., Flower]]:
    """Start a Flower, which runs until the module ends."""
    with ExitStack() as stack:
        yield lambda *options, **more: stack.enter_context(running(*options, **more))


@pytest.fixture(scope="module")
def flower(start_flower) -> Flower:
    """A Flower with a login."""
    return start_flower()


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words += data.split()


@pytest.fixture(scope="session")
def text_of() -> Callable[[requests.Response], str]:
    """Return what is to be read on a page, as words with one space between them."""

    def text(response: requests.Response) -> str:
        assert response.status_code == HTTPStatus.OK
        parser = _Text()
        parser.feed(response.text.partition("<main")[2])
        return " ".join(parser.words)

    return text


BRIEF = RetryPolicy(max_attempts=2, base=0.01, max_delay=0.02)


@pytest.fixture
def impatient(monkeypatch, app_engine):
    """Ask a person soon, and tell no worker."""
    step = AppointmentCreationSaga.definition.step("book_calcom")
    monkeypatch.setattr(step, "finder", replace(step.finder, over=0.05, retry=BRIEF))
    monkeypatch.setattr(step, "retry", BRIEF)
    monkeypatch.setattr(app_engine, "publisher", None)


@pytest.fixture
def in_doubt(app_engine, booking, simulator, db, impatient) -> SagaHandle:
    """A booking that was not answered, and nor was any look at it: Cal.com has it, and a person is asked."""
    handle = record(AppointmentCreationSaga, booking(notes="Secret note"))
    simulator.fault("create", "timeout", "after", count=1)
    simulator.fault("list", "http_503", "before", count=2)
    app_engine.drive(AppointmentCreationSaga, handle.id)
    assert handle.status() == "manual_review_required"
    return handle
