"""Flowers that run until a module ends, what their pages show, and a saga to be shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from html.parser import HTMLParser
from http import HTTPStatus

import pytest
import requests

from sagajobs import AppointmentCreationSaga, SagaHandle
from sagajobs.saga import RetryPolicy
from tests.support.flowers import Flower, running
from tests.support.sagas import record


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
        self.read = ""

    def handle_data(self, data: str) -> None:
        self.read += data

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "wbr":  # which is within a word
            self.read += " "

    def handle_endtag(self, tag: str) -> None:
        self.read += " "


@pytest.fixture(scope="session")
def text_of() -> Callable[[requests.Response], str]:
    """Return what is to be read on a page, as words with one space between them."""

    def text(response: requests.Response) -> str:
        assert response.status_code == HTTPStatus.OK
        parser = _Text()
        parser.feed(response.text.partition("<main")[2])
        return " ".join(parser.read.split())

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
