"""That this process is there, as the database can see it: a lock of a session of its own, gone when the process is.

A worker that dies takes its claims along, and whoever wants to go on must know that it is dead and not slow. A lease
tells in the end; this tells at once. Each process that claims steps keeps one connection open that holds one advisory
lock, and is listed in `saga_owners`. The kernel closes a dead process's connection, the server drops the lock, and the
sweep sees a name in the list behind which nobody stands (`wake`).

The lease stays, for what the lock cannot tell: a frozen process keeps its connection, and one that was cut off may
still be at work. So may any, when the server itself has been restarted: then all locks are gone, and nobody is taken
for dead who has not come back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg2

log = logging.getLogger(__name__)

LOCK_CLASS = 4301
"""First half of the advisory locks' keys; the second is the number in `saga_owners`."""

CHECK_EVERY = 5.0
"""Seconds between two looks whether the lock is still held; a connection that is closed is seen at once."""

TRY_AGAIN = 2.0
"""Seconds until another try where the database takes no connection."""

_ENTER = """
    WITH me AS MATERIALIZED (SELECT nextval('saga_owners_id_seq') AS id),
    locked AS MATERIALIZED (SELECT id, pg_advisory_lock(%(lock_class)s, CAST(id AS int)) FROM me)
    INSERT INTO saga_owners (id, name) SELECT id, %(process)s || '/' || id FROM locked RETURNING id, name
"""
"""Take the lock first and get listed after that: a name is never seen without its lock while its process lives."""

_RETURN = "SELECT pg_advisory_lock(%(lock_class)s, %(id)s)"

_BACK = """
    UPDATE saga_owners SET missed_at = NULL, server_started = pg_postmaster_start_time() WHERE id = %(id)s RETURNING id
"""

_HELD = """
    SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.classid = %(lock_class)s AND l.objid = %(id)s AND d.datname = current_database()
"""

_LEAVE = "DELETE FROM saga_owners WHERE id = %(id)s"


def process_id(name: str) -> int:
    """Return the process id within a presence's name, on the host that the name begins with."""
    return int(name.rpartition(":")[2].partition("/")[0])


class Presence:
    """The presence of this process; it begins with the first use of `name`, and survives the loss of its connection.

    Args:
        connect: makes a connection (psycopg2) that nobody else uses.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._connection: Any = None
        self._id: int | None = None
        self._process = self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._not_before = 0.0
        self._closing = threading.Event()

    @property
    def name(self) -> str:
        """Name of this process, as it goes on record with what it claims.

        Where the database has no connection left, it is one that nobody vouches for: the lease alone counts.
        """
        if self._id is None and time.monotonic() >= self._not_before:
            with self._lock:
                if self._id is None:
                    self._enter()
        return self._name

    def forget(self) -> None:
        """Leave the presence to the parent, in a child that has just been forked."""
        if self._connection is not None:
            # Only this copy of the descriptor: the parent's death must close the connection, whatever children live.
            with contextlib.suppress(OSError):
                os.close(self._connection.fileno())
        self._lock = threading.Lock()
        self._clear()

    def close(self) -> None:
        """End the presence; the process itself says that it is gone."""
        with self._lock:
            self._closing.set()
            if self._connection is not None:
                with contextlib.suppress(psycopg2.Error):
                    self._say(_LEAVE)
                self._connection.close()
            self._clear()

    def _enter(self) -> None:
        try:
            self._connection = self._connected()
            self._get_listed()
        except psycopg2.Error as error:
            log.warning("no presence (%s): should this process die, its leases must run out", type(error).__name__)
            self._not_before = time.monotonic() + TRY_AGAIN
            return
        threading.Thread(target=self._watch, args=(self._closing,), daemon=True, name="presence").start()

    def _connected(self) -> Any:
        connection = self._connect()
        connection.autocommit = True
        return connection

    def _get_listed(self) -> None:
        self._id, self._name = self._say(_ENTER)

    def _say(self, statement: str) -> Any:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, {"lock_class": LOCK_CLASS, "id": self._id, "process": self._process})
            return cursor.fetchone() if cursor.description else None

    def _watch(self, closing: threading.Event) -> None:
        while not closing.is_set():
            with contextlib.suppress(OSError, ValueError, psycopg2.Error):  # closed: the look below finds out
                select.select([self._connection.fileno()], [], [], CHECK_EVERY)
            with self._lock:
                if closing.is_set():
                    return
                lost = not self._held() and not self._come_back()
            if lost:
                closing.wait(TRY_AGAIN)

    def _held(self) -> bool:
        try:
            return bool(self._say(_HELD)[0])
        except psycopg2.Error:
            return False

    def _come_back(self) -> bool:
        """Take the lock again, over another connection, before a sweep has missed us twice; tell whether we did."""
        with contextlib.suppress(psycopg2.Error):
            self._connection.close()
        try:
            self._connection = self._connected()
            self._say(_RETURN)
            if self._say(_BACK) is None:
                # Taken for dead. What we had claimed may be claimed by others; the fence tells us with each write.
                self._get_listed()
        except psycopg2.Error:
            return False
        return True
