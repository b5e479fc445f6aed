"""What Sentry's own SDK sends of log lines and sweeps, to a stand-in on loopback."""

from __future__ import annotations

import logging

import pytest
import sentry_sdk

from sagajobs.errors import TransientError
from sagajobs.monitoring import sentry
from sagajobs.saga.sweeps.sweep import Noted, Sweep, Swept
from tests.support.collecting import collecting

PERSON = "private.person@secret.example"


@pytest.fixture
def collector():
    with collecting() as collector:
        yield collector


@pytest.fixture
def watcher(collector):
    with sentry_sdk.isolation_scope():
        yield sentry.begin(collector.sentry_dsn)
        sentry_sdk.flush()
        sentry_sdk.init()


def test_a_line_of_an_authors_is_sent_without_whom_it_names(watcher, collector):
    log = logging.getLogger("shop.mail")
    log.error("cannot write to %s", PERSON)
    log.error(f"cannot write to {PERSON}")  # noqa: G004 - as many do
    log.error({"to": PERSON})
    sentry_sdk.flush(timeout=60)
    wordings = [event["logentry"]["message"] for event in collector.items("event")]
    place = f"a line of test_sentry.test_a_line_of_an_authors_is_sent_without_whom_it_names {sentry.WITHHELD}"
    assert wordings == ["cannot write to %s", place, place]
    assert PERSON.encode() not in collector.everything


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(sentry, "time", clock)
    return clock


def sweep(every: float) -> Sweep:
    return Sweep(name="recover", body=lambda _engine, _cursor: Swept(0), every=every, what="things")


@pytest.fixture
def failed(collector):
    """Counts the check-ins of sweeps that failed."""

    def failed() -> int:
        sentry_sdk.flush(timeout=60)
        return len([one for one in collector.items("check_in") if one["status"] == "error"])

    return failed


def test_a_sweep_that_broke_off_here_and_was_done_elsewhere_since_is_no_failed_one(watcher, failed, clock):
    """Each process of a worker counts for itself, and does only some of the sweeps."""
    for _ in range(5):
        watcher.broke_off(sweep(every=1), TransientError("away"))
        clock.now += 3600
    assert failed() == 0


def test_a_restart_of_the_database_is_no_failed_sweep(watcher, failed, clock):
    often = sweep(every=1)
    for _ in range(59):
        watcher.broke_off(often, TransientError("away"))
        clock.now += 1
    watcher.swept(often, Noted(0, 0.1, first=False))
    for _ in range(60):
        watcher.broke_off(often, TransientError("away"))
        clock.now += 1
    assert failed() == 0
    for _ in range(60):
        watcher.broke_off(often, TransientError("away"))
        clock.now += 1
    assert failed() == 1, "once a minute, of one that comes each second"
    watcher.broke_off(sweep(every=60), TransientError("away"))
    assert failed() == 2, "at once, of one that comes once a minute"
