"""Who takes a subscription's events: one after another, each gone from the queue only when it has been handled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from kombu import Connection, Message, Queue
from kombu.mixins import ConsumerMixin

from sagajobs.errors import ConfigurationError

CONTENT_TYPE = "application/cloudevents+json"

_WAIT = 1
"""Seconds for which the broker is asked to wait for an event, before somebody looks whether to stop."""


class _Failed(Exception):
    """Carries what ends a run past kombu, which takes any `OSError` of a subscriber's for the broker's absence."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Follower(ConsumerMixin):
    """Takes a subscription's events, one after another; comes back by itself after the broker was away."""

    def __init__(
        self,
        connection: Connection,
        queue: Queue,
        handle: Callable[[dict[str, Any]], None],
        subscribed: Callable[[Any], bool],
    ) -> None:
        self.connection = connection
        self._queue = queue
        self._handle = handle
        self._subscribed = subscribed

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Take events until `should_stop` is set.

        Raises:
            ConfigurationError: the subscription was ended.
            Exception: whatever the subscriber's code raises.
        """
        try:
            super().run(*args, **kwargs)
        except _Failed as failed:
            error = failed.error
        else:
            return
        raise error

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        """See kombu."""
        self._look(channel)
        # One at a time: what is not acknowledged comes again, and must not come behind its successors.
        return [consumer(queues=[self._queue], on_message=self._take, accept=[CONTENT_TYPE], prefetch_count=1)]

    def _look(self, channel: Any) -> None:
        """End the run if the subscription is gone: declared anew, its queue would be bound to nothing."""
        if not self._subscribed(channel):
            name = self._queue.name.rpartition(".")[2]
            raise _Failed(ConfigurationError(f"the subscription {name} was ended; following it anew makes another"))

    def _take(self, message: Message) -> None:
        self._hand_over(message.body)
        message.ack()

    def _hand_over(self, body: Any) -> None:
        event = json.loads(body or "")
        try:
            self._handle(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised by `run`
            raise _Failed(error) from None


class Reader(Follower):
    """The same on Redis, where an event stays at the head of its queue while it is handled.

    kombu takes it out first. What a follower that was killed had taken is then given out again when the visibility
    time-out is over, behind its successors, or lost, if it was on the way. Here whoever reads next reads it again; of
    two followers at once both are given it, and neither its successor before one of them has handled it.
    """

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        """Return none: nothing is taken by kombu."""
        del consumer
        self._look(channel)
        return []

    def consume(  # type: ignore[override]  # `run` iterates over it, whatever kombu's types say
        self, limit: Any = None, timeout: Any = None, safety_interval: Any = 1, **kwargs: Any
    ) -> Iterator[None]:
        """See kombu."""
        del limit, timeout, safety_interval
        context: Any = self.consumer_context(**kwargs)
        with context as (_, channel, _), channel.conn_or_acquire() as redis:
            key = f"{channel.global_keyprefix}{self._queue.name}"  # kombu puts it before those commands that it uses
            while not self.should_stop:
                raw = redis.blmove(key, key, _WAIT, "RIGHT", "RIGHT")  # from its end to its end: only looked at
                if raw is not None:
                    self._hand_over(channel.Message(json.loads(raw), channel=channel).body)
                    redis.lrem(key, -1, raw)
                    yield
                else:
                    self._look(channel)
