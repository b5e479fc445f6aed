"""Switches: what operators turn on and off for all processes at once, without a restart."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from sagajobs.saga.audit import put_on_record
from sagajobs.saga.database import Database
from sagajobs.saga.operator import signed

log = logging.getLogger("saga")

KNOWN_FOR = 1.0
"""Seconds for which a process goes by what it has read: as long as a turned switch may take to be felt."""

READ = text("SELECT value, set_by, why, set_at FROM switches WHERE name = :name")

TURN = text("""
    INSERT INTO switches (name, value, set_by, why, set_at) VALUES (:name, :value, :who, :why, saga_now())
    ON CONFLICT (name) DO UPDATE SET value = :value, set_by = :who, why = :why, set_at = saga_now()
    RETURNING value, set_by, why, set_at
""")


@dataclass(frozen=True, slots=True)
class Turned:
    """How somebody has left a switch: on or off, and who did it, why and when."""

    value: bool
    set_by: str
    why: str
    set_at: datetime


class Switch:
    """One switch, of all processes that share a database.

    May be shared by threads.

    Args:
        database: where it is kept.
        name: of the switch.
        default: how it stands while nobody has turned it.
    """

    def __init__(self, database: Database, name: str, *, default: bool) -> None:
        self.name = name
        self.default = default
        self._database = database
        self._lock = threading.Lock()
        self._value = default
        self._read_at = float("-inf")

    @property
    def on(self) -> bool:
        """Whether it is on, as it was within the last `KNOWN_FOR` seconds.

        Raises:
            DBAPIError: the database is away, and what was read last is older than that.
        """
        with self._lock:
            if time.monotonic() - self._read_at >= KNOWN_FOR:
                now = time.monotonic()  # of before the look: what is turned during it may be missed by it
                turned = self.turned()
                self._value = self.default if turned is None else turned.value
                self._read_at = now
            return self._value

    def turned(self) -> Turned | None:
        """Return how somebody has left it, read just now; None if nobody has turned it."""
        with self._database.reading() as connection:
            row = connection.execute(READ, {"name": self.name}).first()
        return None if row is None else Turned(*row)

    def turn(self, value: bool, *, who: str, why: str) -> Turned:  # noqa: FBT001 - it is what one turns it to
        """Turn it; this process feels it at once, the others within `KNOWN_FOR` seconds.

        Args:
            value: on or off.
            who: does it.
            why: for those who wonder later.

        Raises:
            InvalidInput: it is not said who or why, or cannot be stored.
        """
        by = signed(who, why)
        with self._lock:
            with self._database.transaction() as connection:
                written = {"name": self.name, "value": value, "who": by.who, "why": by.why}
                turned = Turned(*connection.execute(TURN, written).one())
                action = f"switch.{'on' if value else 'off'}"
                put_on_record(connection, by, action, entity="switch", switch=self.name)
            self._value, self._read_at = value, time.monotonic()
        log.warning("switch %s turned %s by %s", self.name, "on" if value else "off", by.who)
        return turned
