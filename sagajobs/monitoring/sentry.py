"""Errors and sweeps told to Sentry, and nothing personal with them (SPEC 6, G7).

What is told: an exception that no author and no part of the engine has a class for (a mistake in the code), with the
saga, its step and the attempt as tags; what the channel `saga` says at ERROR and above, a failed compensation as
`fatal`; errors that the system itself logs; and, as cron monitors, that the sweeps ran. An exception's message, which
may quote a customer, is withheld: its class and the lines that raised it are sent, without the values of variables.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, cast

import sentry_sdk
from sentry_sdk.crons import capture_checkin
from sentry_sdk.crons.consts import MonitorStatus
from sentry_sdk.integrations.argv import ArgvIntegration
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.logging import LoggingIntegration

from sagajobs.saga.events import Lifecycle
from sagajobs.saga.sweeps.sweep import LONGEST, Noted, Sweep
from sagajobs.saga.watching import Doing, Watcher

if TYPE_CHECKING:
    from sentry_sdk._types import Breadcrumb, BreadcrumbHint, Event, Hint, LogLevelStr, MonitorConfig

WITHHELD = "(its message is withheld: it may quote a customer)"

MINUTE = 60.0
"""Seconds of the shortest interval that Sentry's monitors know."""

MARGIN = 3
"""Minutes that a sweep may be late before Sentry takes it for missed: a deployment, a busy worker."""

FAILURES = 2
"""Missed or failed sweeps in a row before Sentry makes an issue of it: a restart of the database is none."""

_CHANNEL = "saga"

_LEVELS: dict[str, LogLevelStr] = {
    # Sentry alerts on levels, and the log's are the seed's: a step that is tried again later is no error yet.
    Lifecycle.STEP_DEGRADED: "warning",
    Lifecycle.REVIEW_REQUIRED: "error",
    Lifecycle.COMPENSATION_FAILED: "fatal",
    Lifecycle.REVIEW_OVERDUE: "fatal",
}


def begin(dsn: str) -> Watcher:
    """Have this process, and those that it forks, report to Sentry; returns who looks on at its sagas.

    What the SDK reads from the environment (`SENTRY_ENVIRONMENT`, `SENTRY_RELEASE`) is left to it.
    """
    sentry_sdk.init(
        dsn=dsn,
        release=None,
        include_local_variables=False,
        max_request_body_size="never",
        before_send=_cleaned,
        before_breadcrumb=_kept,
        auto_enabling_integrations=False,
        disabled_integrations=[ArgvIntegration()],  # a broker's URL on the command line holds its password
        # Its headers would make each message as long again, and its monitors know no sweep of less than a minute.
        integrations=[CeleryIntegration(propagate_traces=False), LoggingIntegration(event_level=logging.ERROR)],
    )
    sentry_sdk.get_global_scope().set_tag("sagajobs", version("sagajobs"))
    return Sentry()


class Sentry(Watcher):
    """Tells Sentry of mistakes in an author's code, and of sweeps."""

    def __init__(self) -> None:
        self._broken: dict[str, tuple[float, float]] = {}

    @contextmanager
    def doing(self, doing: Doing) -> Iterator[None]:
        """See `Watcher`."""
        with sentry_sdk.new_scope() as scope:
            scope.set_tags(
                _tags(saga=doing.saga, saga_id=doing.saga_id, step=doing.step, what=doing.what, attempt=doing.attempt)
            )
            try:
                yield
            except Exception as error:
                if not doing.foreseen(error):
                    sentry_sdk.capture_exception(error)
                raise

    def swept(self, sweep: Sweep, noted: Noted) -> None:
        """Check in once a minute: Sentry's monitors know no shorter interval."""
        self._broken.pop(sweep.name, None)
        if noted.first:
            _check_in(sweep, MonitorStatus.OK, noted.seconds)

    def broke_off(self, sweep: Sweep, error: Exception) -> None:
        """Check in at once; of a sweep that comes more often, once it has broken off for a minute, and each minute.

        Of one that comes each second there are `FAILURES` before anything can have been restarted. That it has been
        well in between this process need not know: another one may have done it.
        """
        del error
        now = time.monotonic()
        since, last = self._broken.get(sweep.name, (now, now))
        if now - last > MARGIN * MINUTE:
            since = now
        told = sweep.every >= MINUTE or now - since >= MINUTE
        self._broken[sweep.name] = (now if told else since, now)
        if told:
            _check_in(sweep, MonitorStatus.ERROR, None)


def monitor_of(sweep: Sweep) -> str:
    """Return the slug of a sweep's cron monitor."""
    return f"sagajobs-{sweep.name.replace('_', '-')}"


def _check_in(sweep: Sweep, status: str, seconds: float | None) -> None:
    every = max(1, math.ceil(sweep.every / MINUTE))
    config: MonitorConfig = {
        "schedule": {"type": "interval", "value": every, "unit": "minute"},
        "checkin_margin": MARGIN,
        "max_runtime": math.ceil(LONGEST / MINUTE),
        "failure_issue_threshold": FAILURES,
        "recovery_threshold": 1,
    }
    capture_checkin(monitor_slug=monitor_of(sweep), status=status, duration=seconds, monitor_config=config)


def _tags(**tags: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in tags.items() if value is not None}


def _cleaned(event: Event, hint: Hint) -> Event:
    """Return an event without what may quote a customer; one of the channel `saga` with the saga as its tags."""
    event.pop("request", None)
    event.pop("user", None)
    event.pop("extra", None)
    for value in event.get("exception", {}).get("values", []):
        value["value"] = WITHHELD
    record = hint.get("log_record")
    if record is None:
        return event
    if record.name == _CHANNEL:
        return _told(event, record)
    if not _ours(record.name):
        event["logentry"] = {"message": _wording(record), "params": []}
    return event


def _wording(record: logging.LogRecord) -> str:
    """Return the wording of somebody else's line without what he has put into it; else only whose line it is."""
    if isinstance(record.msg, str) and record.args:
        return record.msg
    return f"a line of {record.module}.{record.funcName} {WITHHELD}"  # it may have been put together before


def _told(event: Event, record: logging.LogRecord) -> Event:
    said: dict[str, Any] = record.__dict__
    tags = cast("dict[str, Any]", event.setdefault("tags", {}))
    tags.update(_tags(saga=said.get("saga"), saga_id=said.get("saga_id"), step=said.get("step")))
    what: str = said.get("event", "")
    if what in _LEVELS:
        event["level"] = cast("Literal['fatal', 'error', 'warning']", _LEVELS[what])
    # One issue a kind of trouble; which sagas are in it, the tags say.
    event["fingerprint"] = [_CHANNEL, what, str(said.get("saga")), str(said.get("step"))]
    return event


def _kept(crumb: Breadcrumb, hint: BreadcrumbHint) -> Breadcrumb | None:
    """Keep as breadcrumbs what this system logs: what others say, and calls by HTTP, may name a customer."""
    del hint
    if crumb.get("type") != "log" or not _ours(str(crumb.get("category"))):
        return None
    crumb.pop("data", None)
    return crumb


def _ours(logger: str) -> bool:
    return logger == _CHANNEL or logger.partition(".")[0] == "sagajobs"
