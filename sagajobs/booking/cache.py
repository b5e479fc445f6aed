"""`AppointmentCache`: what web applications read of appointments, kept in Redis for a while."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import select, text

from sagajobs.booking.appointment import AppointmentSummary
from sagajobs.booking.schema import appointments
from sagajobs.errors import ConfigurationError, TransientError
from sagajobs.saga import Database

log = logging.getLogger(__name__)

KEPT_FOR = 300
"""Seconds for which an appointment is kept: as long as a lost invalidation can be seen at the most."""

READ_WITHIN = 60
"""Seconds that a reader may take from its look into the cache to its answer; one that takes longer stores nothing."""

REDIS_TIMEOUT = 1.0
"""Seconds, to connect and to answer each: the database has the answer too, and somebody is waiting for it."""

AWAY_FOR = 5.0
"""Seconds for which readers do not ask Redis again after it did not answer: not each must wait for a time-out."""

WARN_EVERY = 60.0
"""Seconds between two warnings that Redis is away: each read of an outage would write one."""

_SHAPE = "-".join(AppointmentSummary.__slots__)
"""Names the field of the value: processes of two versions, during a deployment, do not read each other's."""

_LOOK = """
local found = redis.call('HMGET', KEYS[1], ARGV[1], 'token')
if found[1] then return {found[1], false} end
if found[2] then return {false, found[2]} end
redis.call('HSET', KEYS[1], 'token', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {false, ARGV[2]}
"""
"""The value, or the token of the generation that a reader may store one for."""

_STORE = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""
"""Store a value, unless its generation is over: whoever invalidates removes the key, and with it the token."""

_IN_WORK = text("""
    EXISTS (SELECT FROM sagas WHERE id = appointments.saga_id AND ended_at IS NULL) OR EXISTS (
        SELECT FROM saga_locks JOIN sagas ON sagas.id = saga_locks.saga_id
        WHERE resource = 'appointment:' || appointments.id AND ended_at IS NULL)
""")
"""Whether a saga is at work on an appointment, or waits for its turn; seen at the same moment as the row itself."""


class AppointmentCache:
    """Appointments by id, from Redis if it has them, else from the database.

    Two races would leave an old row in the cache, and both are closed. *A reader loads the row, a writer commits and
    invalidates, the reader stores what it has*: a value is stored under the token that the reader found, or made,
    before it asked the database, and invalidating ends that token. *A saga changes an appointment several times, and a
    reader stores what it sees in between*: an appointment on which a saga is at work is not stored at all. So a saga
    that invalidates once, after the commit of its last change, leaves nothing old behind; and one that made the
    appointment itself need not invalidate.

    Of an appointment ids, times and statuses are kept, nothing about a person (SPEC G7).

    Args:
        url: returns the Redis server's URL; asked at the first use.
        database: where appointments come from.
        prefix: what keys begin with, where deployments share a server: appointments of both have the same ids.
    """

    def __init__(self, url: Callable[[], str], database: Database, prefix: str = "") -> None:
        self._url = url
        self._database = database
        self._prefix = prefix
        self._redis: Redis | None = None  # its connections are made anew in a process that was forked
        self._away_until = self._warn_at = float("-inf")

    def get(self, appointment_id: int) -> AppointmentSummary | None:
        """Return an appointment, None if there is none, or none any more.

        While Redis is away the database answers every time; the log is told once a minute.
        """
        value, token = self._look(appointment_id)
        if value is not None:
            return _from_json(value)
        found, settled = self._load(appointment_id)
        if found is not None and settled and token is not None:
            self._script(_STORE, appointment_id, token, _to_json(found), str(KEPT_FOR))
        return found

    def invalidate(self, appointment_id: int) -> bool:
        """Forget an appointment, after the commit that changed it; tell whether there was something to forget.

        Raises:
            TransientError: Redis did not do it; what it has is old, for `KEPT_FOR` seconds at the most.
        """
        try:
            return bool(self._client.delete(self.key(appointment_id)))
        except (RedisError, ConfigurationError) as error:
            self._redis = None
            raise TransientError(f"the cache did not forget an appointment: {type(error).__name__}") from None

    def key(self, appointment_id: int) -> str:
        """Return the key under which Redis keeps an appointment."""
        return f"{self._prefix}sagajobs:appointment:{appointment_id}"

    def _look(self, appointment_id: int) -> tuple[str | None, str | None]:
        """Return the value, or the token under which one may be stored; neither while Redis is away."""
        if time.monotonic() < self._away_until:
            return None, None
        value, token = self._script(_LOOK, appointment_id, uuid.uuid4().hex, str(READ_WITHIN)) or (None, None)
        return value, token

    def _script(self, script: str, appointment_id: int, *arguments: str) -> Any:
        """Run a script on an appointment's key; None if Redis is away, which the log is told once in a while."""
        try:
            return self._client.eval(script, 1, self.key(appointment_id), _SHAPE, *arguments)
        except (RedisError, ConfigurationError) as error:
            self._lost(error)
            return None

    def _load(self, appointment_id: int) -> tuple[AppointmentSummary | None, bool]:
        """Return the appointment and whether it is at rest."""
        columns = [appointments.c[name] for name in AppointmentSummary.__slots__]
        question = select(*columns, _IN_WORK).where(
            appointments.c.id == appointment_id, appointments.c.deleted_at.is_(None)
        )
        with self._database.reading() as connection:
            row = connection.execute(question).first()
        if row is None:
            return None, False
        *values, busy = row
        return AppointmentSummary(*values), not busy

    @property
    def _client(self) -> Redis:
        client = self._redis  # one look: another thread may be dropping it
        if client is None:
            client = self._redis = Redis.from_url(
                self._url(),
                decode_responses=True,
                socket_timeout=REDIS_TIMEOUT,
                socket_connect_timeout=REDIS_TIMEOUT,
            )
        return client

    def _lost(self, error: Exception) -> None:
        now = time.monotonic()
        self._away_until = now + AWAY_FOR
        self._redis = None  # its URL is asked for again: an embedded server that was killed comes back under another
        if now >= self._warn_at:
            self._warn_at = now + WARN_EVERY
            log.warning("no cache (%s): appointments are read from the database", type(error).__name__)


def _to_json(appointment: AppointmentSummary) -> str:
    return json.dumps(asdict(appointment), default=datetime.isoformat)


def _from_json(value: str) -> AppointmentSummary:
    document: dict[str, Any] = json.loads(value)
    for name in ("starts_at", "ends_at"):
        document[name] = datetime.fromisoformat(document[name])
    return AppointmentSummary(**document)
