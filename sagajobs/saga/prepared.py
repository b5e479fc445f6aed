"""Statements that a connection plans once: planning the engine's takes the server longer than carrying them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult, text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2


class Prepared:
    """A statement that is prepared on a connection when it is first carried out there.

    Which ones a connection has is kept beside it, and gone with it. So a pooler between us and the server must pool
    sessions (as for the presence). Only for connections of our own: what `enqueue` does in the application's
    transaction may go through a pooler of its own.

    Args:
        name: by which the server knows it.
        statement: with parameters as `:name`.
        types: of each parameter, in PostgreSQL's words.
    """

    def __init__(self, name: str, statement: str, **types: str) -> None:
        compiled = text(statement).compile(dialect=PGDialect_psycopg2(paramstyle="numeric_dollar"))  # type: ignore[no-untyped-call]  # SQLAlchemy has none there
        self._name = f"sagajobs_{name}"
        parameters = list(compiled.positiontup or ())
        declared = ", ".join(types[parameter] for parameter in parameters)
        self._prepare = f"PREPARE {self._name} ({declared}) AS {compiled.string}"
        self._execute = text(f"EXECUTE {self._name} ({', '.join(f':{parameter}' for parameter in parameters)})")

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Carry it out; raises `DBAPIError`."""
        if self._name not in connection.info:
            connection.exec_driver_sql(self._prepare)
            connection.info[self._name] = True
        return connection.execute(self._execute, values)
