"""The engine's connections to PostgreSQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2.extensions import TRANSACTION_STATUS_INERROR
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.orm import Session

from sagajobs.saga.missing import tell_of_missing_tables
from sagajobs.saga.presence import Presence

IDLE_IN_TRANSACTION = 60
"""Seconds after which the server ends an idle transaction: a frozen worker must not hold a saga's row for ever."""

CONNECT_WITHIN = 5
"""Seconds that it may take to get a connection of a server."""

LOCK_TIMEOUT = 30
"""Seconds that a statement may wait for a lock (SPEC G6: a wait has an end)."""


class Database:
    """A lazily made SQLAlchemy engine, one per process.

    Args:
        url: returns the database's URL; asked at the first use, so that importing a saga connects to nothing.
        pool_size: connections kept open per process.
        idle_in_transaction: seconds, see `IDLE_IN_TRANSACTION`.
    """

    def __init__(
        self, url: Callable[[], str], *, pool_size: int = 5, idle_in_transaction: float = IDLE_IN_TRANSACTION
    ) -> None:
        self._url = url
        self._pool_size = pool_size
        self._idle_in_transaction = idle_in_transaction
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self.presence = Presence(self._detached)
        # A pool inherited through fork shares its sockets with the parent: two processes then read each other's
        # rows. The child forgets the pool without closing the parent's connections.
        os.register_at_fork(after_in_child=self._forget)

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._create()
        return self._engine

    def _create(self) -> Engine:
        engine = create_engine(
            self._url(),
            pool_size=self._pool_size,
            max_overflow=20,
            # An error message with a statement's parameters would carry a customer's data into logs (SPEC G7).
            hide_parameters=True,
            connect_args=self._arguments(),
        )
        tell_of_missing_tables(engine)
        return engine

    def _arguments(self) -> dict[str, Any]:
        idle = int(self._idle_in_transaction * 1000)
        return {
            "options": f"-c idle_in_transaction_session_timeout={idle} -c lock_timeout={LOCK_TIMEOUT * 1000}",
            "application_name": "sagajobs",
            "connect_timeout": CONNECT_WITHIN,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        }

    def _detached(self) -> Any:
        """Return a connection (psycopg2) beside the pool's.

        Who needs one holds one of the pool's already, and where many begin at once, all are held: they would wait for
        each other.
        """
        dialect = self.engine.dialect
        arguments, named = dialect.create_connect_args(self.engine.url)
        return dialect.connect(*arguments, **{**named, **self._arguments()})

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self.presence.forget()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose(close=False)

    def close(self) -> None:
        """Close the connections of this process."""
        self.presence.close()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction that is committed at the end, or rolled back by an exception."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for single reads, without a transaction around them."""
        with self.engine.connect() as connection:
            # By SQLAlchemy's `isolation_level` each read would send a second statement, which takes the level back
            # when the connection is; and that one, failing, would take from its caller what he has read.
            raw: Any = connection.connection.dbapi_connection
            raw.autocommit = True
            try:
                yield connection
            finally:
                if not raw.closed:
                    raw.autocommit = False

    @contextmanager
    def session(self, connection: Connection) -> Iterator[Session]:
        """A session that works inside `connection`'s transaction and cannot commit it; flushed at the end.

        A step's own `commit()` then only flushes: its writes and the record that it is done stay one transaction
        (SPEC G2) whatever the step's author does.

        Raises:
            RuntimeError: at the end, if the transaction was rolled back on the way, or is spoilt by a statement that
                failed. What was written since then is lost, so it must not go on record as done.
        """
        if not connection.in_transaction():
            connection.begin()  # else the session would begin one of its own, and take it back when it closes
        outer = connection.get_transaction()
        with Session(bind=connection, join_transaction_mode="rollback_only", expire_on_commit=False) as session:
            yield session
            session.flush()
            ended = outer is None or not outer.is_active or connection.get_transaction() is not outer
            if ended or connection.connection.get_transaction_status() == TRANSACTION_STATUS_INERROR:
                raise RuntimeError("the transaction did not survive: use `with db.begin_nested():` for what may fail")
