"""The event bus: lifecycle events as CloudEvents on a topic exchange of the broker's, and who subscribes to them.

An event names a saga, its kind, a step and an attempt; no input, no result, nothing personal (SPEC G7). A subscriber
who wants to know more asks the database, or a `SagaHandle`.

Each subscription is a queue of its own, bound by a pattern of `<saga>.<event>` (`*` for one word, `#` for any number).
A queue that nobody empties must not fill the broker, whose memory the sagas' own messages need: at `FULL` events it
takes no more, and all events wait in the outbox. On RabbitMQ the queue itself refuses; on Redis the sender looks first.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from amqp.exceptions import NotFound
from celery import Celery
from kombu import Connection, Exchange, Producer, Queue
from kombu.exceptions import OperationalError

from sagajobs.errors import ConfigurationError
from sagajobs.saga.follower import CONTENT_TYPE, Follower, Reader
from sagajobs.saga.outbox import Happening
from sagajobs.saga.sending import QuickProducer, quick_connection

log = logging.getLogger(__name__)

EXCHANGE = "sagajobs.events"

FULL = 10_000
"""Events that a subscription's queue takes: some 5 MB, and at a hundred sagas a minute a quarter of an hour."""

_NAME = 100
"""Characters of a subscription's name, at most."""

_OTHERS = re.compile(r"[^A-Za-z0-9_-]")

_WORD = 60
"""Characters of a routing key's first word: RabbitMQ takes 255 bytes in all, and one event that it never takes would
stop all others."""

_PATTERN = re.compile(r"[^\s.]+(\.[^\s.]+)*")

_LONGEST_PATTERN = 200
"""Characters, at most: AMQP takes 255 bytes."""

_TRIES = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.2}


class Bus:
    """The exchange that lifecycle events go to.

    Args:
        app: returns the Celery app, whose connections are used.
        prefix: what the names of queues and exchanges begin with, where deployments share a broker.
        full: see `FULL`.
    """

    def __init__(self, app: Callable[[], Celery], prefix: str = "", *, full: int = FULL) -> None:
        self._app = app
        self._prefix = prefix
        self._full = full
        self._exchange = Exchange(prefix + EXCHANGE, type="topic", durable=True)

    # --- sending ---

    def send(self, happenings: Sequence[Happening]) -> int:
        """Send events in their order; see `outbox.Carrier`."""
        sent = 0
        try:
            with self._producer() as producer:
                for happening in happenings[: self._room(producer)]:
                    producer.publish(
                        json.dumps(document(happening, self._prefix)),
                        routing_key=f"{_word(happening.saga)}.{happening.event}",
                        content_type=CONTENT_TYPE,
                        content_encoding="utf-8",
                        retry=True,
                        retry_policy=_TRIES,
                    )
                    sent += 1
        except Exception as error:  # noqa: BLE001 - each transport has its own; the events wait, whatever it was
            # A nack of RabbitMQ's means that a queue is full.
            log.warning("events wait in the outbox: the broker takes none now (%s)", type(error).__name__)
        return sent

    @contextmanager
    def _producer(self) -> Iterator[Producer]:
        with self._app().producer_or_acquire() as pooled:
            yield QuickProducer(pooled.channel, exchange=self._exchange)

    def _room(self, producer: Producer) -> int:
        """Return how many events every queue has room for; only the sender can tell where the broker sets no limit."""
        if not hasattr(producer.channel, "get_table"):
            return self._full
        lengths = [self._length(producer.channel, queue) for *_, queue in self._bindings(producer.channel)]
        room = max(self._full - max(lengths, default=0), 0)
        if room == 0:
            log.warning("events wait in the outbox: a subscription has %d that nobody takes", self._full)
        return room

    def _bindings(self, channel: Any) -> list[tuple[str, str, str]]:
        """Return the pattern, its expression and the queue of each binding, where kombu keeps them itself."""
        self._exchange(channel).declare()
        table = getattr(channel, "get_table", None)
        return [] if table is None else list(table(self._exchange.name))

    def _patterns(self, channel: Any, queue: str) -> list[str]:
        """Return which events a queue gets, where kombu keeps that itself."""
        return [pattern for pattern, _, bound in self._bindings(channel) if bound == queue]

    def _length(self, channel: Any, queue: str) -> int:
        # kombu's own look at whether a queue exists knows no key prefix; to declare one on Redis makes nothing.
        passive = not hasattr(channel, "get_table")
        try:
            return int(channel.queue_declare(queue, passive=passive).message_count)
        except NotFound:  # there is no such queue
            return 0

    # --- subscribing ---

    def queue(self, name: str, pattern: str | None = "#") -> Queue:
        """Return a subscription's queue, bound to nothing more if the pattern is None.

        Raises:
            ConfigurationError: the name is empty, too long, or has other characters than letters, digits, `-` and `_`;
                or nothing can be meant by the pattern.
        """
        if not 0 < len(name) <= _NAME or not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigurationError(
                f"a subscription's name is 1 to {_NAME} letters, digits, dashes and underscores, not {name!r}"
            )
        if pattern is not None:
            _check(pattern)
        limits = {
            "x-queue-type": "quorum",
            "x-max-length": self._full,
            "x-overflow": "reject-publish",
            # Of several followers one takes all, and the others are its reserve: two would overtake each other.
            "x-single-active-consumer": True,
        }
        return Queue(
            f"{self._prefix}{EXCHANGE}.{name}",
            None if pattern is None else self._exchange,
            routing_key=pattern or "",
            queue_arguments=limits if self._url.startswith("amqp") else None,
        )

    def subscribe(self, name: str, pattern: str = "#") -> None:
        """Make a subscription: from now on its queue keeps events until somebody takes them.

        Raises:
            ConfigurationError: no such name or pattern.
            OperationalError: the broker is away.
        """
        with self._connection() as connection:
            self.queue(name, pattern)(connection.default_channel).declare()

    def unsubscribe(self, name: str, *, before: Callable[[int], object] = lambda _left: None) -> int:
        """End a subscription; returns how many events its queue still had.

        Args:
            name: of the subscription.
            before: told that number before anything is gone; what it raises leaves all as it is.

        Raises:
            ConfigurationError: no such name, or nobody has subscribed by it, as far as the broker tells (Redis).
            OperationalError: the broker is away.
        """
        with self._connection() as connection:
            queue = self.queue(name)
            left = self._length(connection.default_channel, queue.name)
            channel: Any = connection.channel()  # RabbitMQ closes one on which it was asked for a queue that is none
            patterns = self._patterns(channel, queue.name)
            if not patterns and hasattr(channel, "get_table"):
                raise ConfigurationError(f"nobody has subscribed as {name}; `sagajobs events status` lists who has")
            before(left)
            for pattern in patterns:  # kombu deletes the bindings that it knows: those it has seen made
                channel.queue_bind(queue.name, self._exchange.name, pattern)
            channel.queue_delete(queue.name)
        return left

    def subscriptions(self) -> dict[str, int] | None:
        """Return how many events wait in each subscription's queue; None where only the broker knows (RabbitMQ)."""
        with self._connection() as connection:
            channel = connection.default_channel
            if not hasattr(channel, "get_table"):
                return None
            names = sorted({queue for *_, queue in self._bindings(channel)})
            return {name.removeprefix(f"{self._exchange.name}."): self._length(channel, name) for name in names}

    def subscribed(self, name: str) -> bool:
        """Tell whether there is a subscription of this name; raises as `subscribe`."""
        with self._connection() as connection:
            return self._subscribed(connection.default_channel, self.queue(name).name)

    def follow(self, name: str, handle: Callable[[dict[str, Any]], None], pattern: str | None = None) -> Follower:
        """Return who takes a subscription's events; his `run` does not end before he `should_stop`.

        Args:
            name: of the subscription, made if there is none.
            handle: called with each event, a CloudEvent as a dictionary. The event is gone from the queue when it has
                returned; what it raises ends the run, and the event comes again.
            pattern: which events, by `<saga>.<event>`, beside those that the subscription keeps; None for no others,
                and, where there is no subscription yet, for all.
        """
        queue: Any = self.queue(name, None)
        if pattern is None and not self.subscribed(name):
            pattern = "#"
        if pattern is not None:
            self.subscribe(name, pattern)
        queue.no_declare = True  # once it is gone, kombu would make it anew, bound to nothing
        kind = Follower if self._url.startswith("amqp") else Reader
        patient = self._app().connection_for_read()
        return kind(patient, queue, handle, lambda channel: self._subscribed(channel, queue.name))

    def _subscribed(self, channel: Any, queue: str) -> bool:
        if hasattr(channel, "get_table"):
            return bool(self._patterns(channel, queue))
        with channel.connection.channel() as own:  # RabbitMQ closes one on which it was asked for a queue that is none
            try:
                own.queue_declare(queue, passive=True)
            except NotFound:
                return False
        return True

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with quick_connection(self._app()) as connection:
            try:
                yield connection
            except connection.connection_errors as error:  # each driver has its own, and RabbitMQ's a bare `OSError`
                raise OperationalError(str(error)) from error

    @property
    def _url(self) -> str:
        return str(self._app().conf.broker_url)


def _word(saga: str) -> str:
    """Return a saga's name as a word of a routing key: that of a saga of plain functions may be any text."""
    return _OTHERS.sub("_", saga)[:_WORD]


def _check(pattern: str) -> None:
    words = pattern.split(".")
    if len(pattern) > _LONGEST_PATTERN or not _PATTERN.fullmatch(pattern) or (len(words) == 1 and pattern != "#"):
        raise ConfigurationError(
            f"a pattern is SAGA.EVENT, with * for any of them, or # for all events, in at most {_LONGEST_PATTERN} "
            f"characters, such as '*.step_failed', not {pattern[:_LONGEST_PATTERN]!r}"
        )


def document(happening: Happening, prefix: str = "") -> dict[str, Any]:
    """Return an event as CloudEvents 1.0 in its JSON format, with the extensions sequence, partitioning and tracing."""
    optional = {"step": happening.step, "attempt": happening.attempt}
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(happening.number),
        "source": f"/{prefix}sagajobs/{quote(happening.saga, safe='')}",
        "type": f"sagajobs.{happening.event}",
        "subject": happening.saga_id,
        "time": happening.at.isoformat(),
        "datacontenttype": "application/json",
        "sequence": f"{happening.number:020d}",
        "partitionkey": happening.saga_id,
        "data": {"saga": happening.saga, "saga_id": happening.saga_id, "event": happening.event}
        | {name: value for name, value in optional.items() if value is not None},
    }
    return event if happening.trace is None else event | {"traceparent": happening.trace}
