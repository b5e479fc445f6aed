"""What the drivers of Redis and of the broker raise, when a server goes away while it is in use."""

from __future__ import annotations

from amqp.exceptions import AMQPError
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

BROKER_ERRORS: tuple[type[Exception], ...] = (RedisError, AMQPError, KombuError)

BROKER_AWAY: tuple[type[Exception], ...] = (*BROKER_ERRORS, OSError)
"""Likewise, where nothing else is in use that could raise an error of the system's."""
