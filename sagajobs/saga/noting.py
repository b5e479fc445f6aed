"""Noting: what the application's own tables show of a review, in the commit that begins or ends it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from sagajobs.saga.database import Database
from sagajobs.saga.policy import passes_by_itself

log = logging.getLogger(__name__)


def note(database: Database, connection: Connection, saga_id: str, write: Callable[[Session], None]) -> None:
    """Let a saga write to the application's own tables, in the transaction that asks a person or ceases to.

    That transaction goes on whatever becomes of the writes: a case's reason may well be that those tables take nothing.

    Args:
        database: the connection's.
        connection: in the transaction.
        saga_id: for the log.
        write: `Saga.note_review` or `Saga.note_settled`.

    Raises:
        DBAPIError: the database is away or busy, which passes by itself.
    """
    try:
        with connection.begin_nested(), database.session(connection) as db:
            write(db)
    except Exception as error:
        if passes_by_itself(error):
            raise
        log.critical("saga %s: its own tables do not show how its review stands: %s", saga_id, type(error).__name__)
