"""What all workers with one API key share in Redis, and what becomes of it while Redis is away."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from sagajobs.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

TIMEOUT = 0.5
"""Seconds that Redis may take to answer: a call that waits for it may hold up a web request."""

AWAY_FOR = 5.0
"""Seconds for which Redis is not asked again after it did not answer: not every call must wait for a time-out."""

WARN_EVERY = 60.0
"""Seconds between two warnings, of one process, that Redis is away."""

_DIGITS = 16
"""Of the key's SHA-256 in names: 64 bits tell keys apart, and tell nothing about a key of Cal.com's length."""

_Value = TypeVar("_Value")


@dataclass(slots=True)
class _Mine:
    """What one process has: a connection taken along through a fork would mix the answers of parent and child."""

    pid: int
    client: redis.Redis | None = None
    away_until: float = 0.0
    warn_at: float = 0.0


class Shared:
    """Redis, as far as the calls with one API key need it: asked quickly, or done without.

    May be shared by threads and survives a fork.

    Args:
        url: returns Redis' URL as redis-py wants it; asked at the first use in each process, and again after Redis
            was away.
        api_key: whose calls these are; only a digest of it gets into Redis.
    """

    def __init__(self, url: Callable[[], str], api_key: SecretStr | str) -> None:
        secret = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
        self.prefix = f"sagajobs:calcom:{hashlib.sha256(secret.encode()).hexdigest()[:_DIGITS]}"
        self._url = url
        self._own = _Mine(os.getpid())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.prefix!r})"

    def name(self, *parts: str) -> str:
        """Return a name in Redis of this key's own."""
        return ":".join((self.prefix, *parts))

    def ask(self, question: Callable[[redis.Redis], _Value], otherwise: _Value) -> _Value:
        """Return the answer to `question`, or `otherwise` while Redis is away.

        That Redis is away is said in one warning a minute and stops nobody: Cal.com's own limit still holds, and a
        failing Cal.com still fails.

        Args:
            question: gets the client; may be asked twice if a connection turns out to be dead.
            otherwise: what to go on with.
        """
        mine = self._mine()
        if time.monotonic() < mine.away_until:
            return otherwise
        try:
            if mine.client is None:
                mine.client = _connected(self._url())
            return question(mine.client)
        except (redis.RedisError, ConfigurationError) as error:
            self._lost(mine, error)
            return otherwise

    def _mine(self) -> _Mine:
        # No lock: one held by another thread at a fork would never be released in the child. Two threads that come
        # here first at once make two clients, one of which is dropped.
        if self._own.pid != os.getpid():
            self._own = _Mine(os.getpid())
        return self._own

    def _lost(self, mine: _Mine, error: Exception) -> None:
        now = time.monotonic()
        mine.away_until = now + AWAY_FOR
        # The URL is asked for again: an embedded server that was killed comes back under another one.
        client, mine.client = mine.client, None
        if client is not None:
            # Not the connections that other threads wait on: what they would get is no error of Redis'.
            client.connection_pool.disconnect(inuse_connections=False)
        if now >= mine.warn_at:
            mine.warn_at = now + WARN_EVERY
            # Only the class: the text may quote the URL.
            _log.warning(
                "Redis does not answer (%s): calls to Cal.com go out without shared quota and circuit breaker; "
                "see to the server that SAGAJOBS_REDIS_URL names",
                type(error).__name__,
            )


def _connected(url: str) -> redis.Redis:
    options = {} if url.startswith("unix") else {"socket_connect_timeout": TIMEOUT}
    # One more try at once, for a connection that Redis' restart has left dead; only for those: a time-out is long
    # enough once.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    return redis.Redis.from_url(url, socket_timeout=TIMEOUT, retry=retry, **options)
