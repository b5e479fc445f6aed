"""Where a secret or a person could show: settings, clients, engines, exceptions, log lines, what Sentry is sent."""

from __future__ import annotations

import json
import os
import pickle
import reprlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

from sagajobs import AppointmentCreationSaga, BookingRequest, SagaException
from sagajobs.errors import InvalidInput

MARK = "quagmire7secret"
REQUEST = {
    "customer": {"name": MARK, "email": f"{MARK}@example.com", "phone": "+4930123456789", "time_zone": "UTC"},
    "event_type_id": 1,
    "start": "2040-01-01T10:00:00Z",
    "duration_minutes": 30,
    "notes": MARK,
}
PRIVATE = (MARK, "4930123456789")

ENVIRONMENT = {
    "SAGAJOBS_DATABASE_URL": f"postgresql://user:{MARK}@127.0.0.1:1/sagajobs",
    "SAGAJOBS_BROKER_URL": f"redis://user:{MARK}@127.0.0.1:1/0",
    "SAGAJOBS_REDIS_URL": f"redis://user:{MARK}@127.0.0.1:1/1",
    "SAGAJOBS_CALCOM_URL": "http://127.0.0.1:1",
    "SAGAJOBS_CALCOM_API_KEY": f"cal_{MARK}",
    "SAGAJOBS_CALCOM_WEBHOOK_SECRET": MARK,
    "SAGAJOBS_SENTRY_DSN": f"https://{MARK}@127.0.0.1:1/1",
    "SAGAJOBS_LOG_LEVEL": "DEBUG",
}

_TRY_ALL = """
import logging, sys, traceback
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from sagajobs import root, AppointmentCreationSaga
from sagajobs.calcom.operations import *
things = [root.settings(), root.servers(), root.engine, root.database, root.calcom(), root.quota(), root.circuit(),
          root.services, root.app, root.saga_enabled, root.engine.publisher, root.engine.executor, root._shared()]
for thing in things:
    print(type(thing).__name__, repr(thing), str(thing))
def attempt(what):
    try:
        what()
    except BaseException:
        traceback.print_exc(file=sys.stdout)
attempt(lambda: root.database.engine.connect())
attempt(lambda: print(repr(root.database.engine), root.database.engine.url))
attempt(lambda: root.calcom().get_booking("uid"))
attempt(lambda: root.find_appointment(1))
attempt(lambda: root.app.control.ping(timeout=0.2))
attempt(lambda: root.app.connection().ensure_connection(max_retries=1, timeout=1))
attempt(lambda: print(root.app.connection()))
from pathlib import Path
from sagajobs.cli.stack import Stack
stack = Stack(Path("/nowhere"))
programs = [stack.worker(), stack.beat(), stack.flower(1), stack.webhooks(1, root.settings().calcom_webhook_secret)]
for program in programs:
    print(program.argv, repr(program))
print(repr(stack))
print("the end")
"""


def run(*argv: str, timeout: float = 60) -> str:
    """Run a program with secrets in its environment, and return all that it said."""
    done = subprocess.run(
        argv,
        env={name: value for name, value in os.environ.items() if not name.startswith("SAGAJOBS_")} | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.stdout + done.stderr


PROGRAM = str(Path(sys.executable).parent / "sagajobs")


def test_nothing_that_is_printed_logged_or_raised_holds_a_secret():
    said = run(sys.executable, "-c", _TRY_ALL)
    assert "the end" in said
    assert "Connection refused" in said
    assert MARK not in said, [line for line in said.splitlines() if MARK in line]


@pytest.mark.parametrize(
    "command",
    [
        "settings",
        "settings --json",
        "sagas review",
        "db current",
    ],
)
def test_no_command_says_a_secret(command):
    said = run(PROGRAM, *command.split())
    assert said
    assert MARK not in said


class Kept(Transport):
    """A transport that keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def capture_envelope(self, envelope) -> None:
        self.sent += envelope.serialize()


@pytest.fixture
def sentry() -> Iterator[Kept]:
    """Sentry as docs/security.md has a user set it up."""
    kept = Kept()
    with sentry_sdk.isolation_scope():
        sentry_sdk.init(
            "http://key@127.0.0.1:1/1",
            integrations=[CeleryIntegration()],
            transport=kept,
            include_local_variables=False,
            traces_sample_rate=1.0,
        )
        yield kept
        sentry_sdk.flush()
        sentry_sdk.init()


def chain_of(error: BaseException) -> list[BaseException]:
    """Return an exception and all that it was caused by, or came up in handling."""
    found = [error]
    while (error := error.__cause__ or error.__context__) is not None:
        found.append(error)
    return found


def raised(act, *args, **options) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever it is
        act(*args, **options)
    return caught.value


def _wrong(**changes) -> dict:
    return REQUEST | changes


WRONG = {
    "no e-mail address": _wrong(customer=REQUEST["customer"] | {"email": MARK}),
    "no phone": _wrong(customer=REQUEST["customer"] | {"phone": MARK}),
    "a field too many": _wrong(other=MARK),
    "notes too long": _wrong(notes=MARK * 1000),
    "no time": _wrong(start=MARK),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_request_that_is_refused_is_not_quoted(sentry, wrong):
    for act in (BookingRequest.model_validate, AppointmentCreationSaga.enqueue):
        error = raised(act, WRONG[wrong])
        said = [str(one) + repr(one) for one in chain_of(error)]
        sentry_sdk.capture_exception(error)
        assert MARK not in "".join(said)
    sentry_sdk.flush()
    assert b"exception" in sentry.sent
    assert MARK.encode() not in sentry.sent


def test_a_saga_that_fails_is_reported_without_the_person(sentry, booking, simulator):
    simulator.fault("create", "http_500", "before", count=1)
    slot = booking(customer=REQUEST["customer"], notes=MARK)
    with sentry_sdk.start_transaction(name="a web request"):
        AppointmentCreationSaga.run(slot)
    error = raised(AppointmentCreationSaga.run, slot | {"staff_id": 10**9})
    assert isinstance(error, InvalidInput | SagaException)
    for one in chain_of(error):
        sentry_sdk.capture_exception(one)
    sentry_sdk.flush()
    assert b"exception" in sentry.sent
    assert b"a web request" in sentry.sent
    found = [sentry.sent.find(private.encode()) for private in PRIVATE]
    assert [sentry.sent[max(0, place - 200) : place + 50] for place in found if place >= 0] == []


def test_a_request_shows_no_person():
    request = BookingRequest.model_validate(REQUEST)
    for shown in (repr(request), str(request), f"{request.customer!r}", reprlib.repr(request)):
        assert [private for private in PRIVATE if private in shown] == []


def test_exceptions_go_between_processes_without_a_person():
    error = raised(AppointmentCreationSaga.enqueue, WRONG["no e-mail address"])
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), str(again)) == (InvalidInput, str(error))
    assert MARK.encode() not in pickle.dumps(error)
    assert MARK not in json.dumps(again.problems)
