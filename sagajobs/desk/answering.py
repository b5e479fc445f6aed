"""Who answers: workers, and the broker between, which no table tells of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Connection, Producer

from sagajobs.desk.brokererrors import BROKER_AWAY
from sagajobs.saga.sending import QuickProducer, quick_connection

PATIENCE = 1.0
"""Seconds for which workers are waited for: all answer between two messages, or are not there."""


class _Once(QuickProducer):
    """Tries once: a mailbox has it tried again and again, and somebody waits for the answer."""

    def publish(self, *args: Any, **kwargs: Any) -> Any:
        return super().publish(*args, **kwargs | {"retry": False})


class _Own:
    """Stands where a mailbox looks for its producers: a pooled one may be an old one that is broken."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def acquire(self) -> Iterator[Producer]:
        yield _Once(self._connection.default_channel, auto_declare=False)


def workers_answering(app: Celery) -> int | None:
    """Return how many workers answer, None if the broker does not."""
    try:
        with quick_connection(app) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, reraise_as_library_errors=False)
            control: Any = app.control  # whose stubs know no mailbox
            mailbox = control.mailbox(connection)
            mailbox.producer_pool = _Own(connection)
            return len(mailbox.multi_call("ping", timeout=PATIENCE) or ())
    except BROKER_AWAY:
        return None
