"""Virtual time: the one function that the database asks for it, replaced."""

from __future__ import annotations

from sqlalchemy import text

from sagajobs.saga import Database


class Clock:
    """What the database takes for the time: it passes as always, and leaps when it is told to.

    Args:
        database: whose `saga_now()` it replaces, for everybody who works on that database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.ahead = 0.0

    def leap(self, seconds: float) -> None:
        """Move on by so many seconds."""
        self.ahead += seconds
        self._set(f"statement_timestamp() + make_interval(secs => {self.ahead!r})")

    def put_right(self) -> None:
        """Go back to the real time."""
        if self.ahead:
            self.ahead = 0.0
            self._set("statement_timestamp()")

    def _set(self, now: str) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                text(
                    "CREATE OR REPLACE FUNCTION saga_now() RETURNS timestamptz "
                    f"LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT {now}'"
                )
            )
