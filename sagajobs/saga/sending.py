"""How messages are sent to the broker: in little time, or not at all, because the sweep sends them again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection, Producer
from kombu.pools import ProducerPool

ANSWER_WITHIN = 2.0
"""Seconds after which a broker that says nothing is taken to be away."""

CONFIRM_WITHIN = 5.0
"""Seconds in which RabbitMQ has to confirm that it has a message. Short of memory or disk it takes none and says so to
nobody who waits for it: a web request, or the sweep with the outbox in its hands, would wait for as long as that."""


class QuickProducer(Producer):
    """Sends, and waits for the confirmation for some seconds."""

    def publish(self, *args: Any, **kwargs: Any) -> Any:
        """See kombu. A connection on which it fails is given up without a word.

        The confirmation may come yet, and would be taken for that of the next message; and RabbitMQ, where it takes no
        message, does not answer to a goodbye either.
        """
        kwargs["confirm_timeout"] = kwargs.get("confirm_timeout") or CONFIRM_WITHIN  # Celery says None
        try:
            return super().publish(*args, **kwargs)
        except Exception:
            if self.connection is not None:
                self.connection.collect()
            raise


@contextmanager
def quick_connection(app: Celery) -> Iterator[Connection]:
    """Open a connection on which nobody waits for long; given up without a word if the block raises something."""
    connection = _quick(app)
    try:
        yield connection
    except BaseException:
        connection.collect()
        raise
    connection.release()


def _quick(app: Celery) -> Connection:
    """Return a connection that has less patience than a worker's own, to take messages from.

    On one that was cut without a word, redis-py and kombu each try again: with the worker's 10 s that came to 40 s,
    for which a web request was held.
    """
    redis = not str(app.conf.broker_url).startswith("amqp")
    options = {"socket_timeout": ANSWER_WITHIN, "socket_connect_timeout": ANSWER_WITHIN} if redis else {}
    return app.connection_for_write(connect_timeout=ANSWER_WITHIN, transport_options=options)


class Sending(AMQP):
    """What Celery sends tasks by; its producers are quick, and use quick connections."""

    Producer = QuickProducer  # for beat, which has a connection of its own
    _producer_pool: Any
    _pid: int | None = None

    @property
    def producer_pool(self) -> Any:
        """The producers of this process, not those of one that it was forked from.

        Celery forgets them after a fork of its own; of that of a web server, which has loaded the application, it hears
        nothing.
        """
        if self._producer_pool is None or self._pid != os.getpid():
            limit = self.app.pool.limit
            self._producer_pool = ProducerPool(_quick(self.app).Pool(limit), limit=limit, Producer=QuickProducer)
            self._pid = os.getpid()
        return self._producer_pool
