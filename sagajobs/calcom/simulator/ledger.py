"""The bookings of the simulator: every committed state of each, the unique key, and the lagging replica."""

from __future__ import annotations

import math
import secrets
import string
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_UID_LETTERS = string.ascii_letters + string.digits
_UID_LENGTH = 22

Key = tuple["datetime", "datetime", int, int | None]
"""Start, end, host, and who reassigned it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An attendee: who booked, or a guest. `id` is 0 until the ledger has given one."""

    name: str
    email: str
    time_zone: str
    phone: str | None = None
    language: str = "en"
    id: int = 0
    absent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One state of one booking; a change makes another row under the same uid.

    `status` is accepted, pending, cancelled or rejected; `start` and `end` are in UTC. `attendee` booked, `guests`
    came along or were added. `confirmed` is a booking that was not accepted from the beginning, `reassigned_by` the
    user who gave it to another host.
    """

    id: int
    uid: str
    event_type_id: int
    host_id: int
    title: str
    start: datetime
    end: datetime
    status: str
    attendee: Person
    created_at: datetime
    location: str
    ics_uid: str
    updated_at: datetime | None = None
    guests: tuple[Person, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    responses: dict[str, Any] = field(default_factory=dict)
    cancellation_reason: str = ""
    cancelled_by: str = ""
    rescheduled_from: str | None = None
    rescheduled_to: str | None = None
    rescheduled_by: str = ""
    rescheduling_reason: str = ""
    rejection_reason: str = ""
    confirmed: bool = False
    reassigned_by: int | None = None
    absent_host: bool = False

    @property
    def key(self) -> Key | None:
        """The unique key of the table, which a cancel frees.

        Only rows that were accepted when they were made have one: a confirmation sets none, which is how two
        pending bookings of one host and time can both be confirmed.
        """
        if self.status != "accepted" or self.confirmed:
            return None
        return (self.start, self.end, self.host_id, self.reassigned_by)

    @property
    def changed_at(self) -> datetime:
        """When the booking became what this row says."""
        return self.updated_at or self.created_at

    @property
    def people(self) -> tuple[Person, ...]:
        """Everybody who attends, who booked first."""
        return (self.attendee, *self.guests)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a booking, and the request that made it happen."""

    what: str
    at: datetime
    request_id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A booking as it can be kept elsewhere and put back: how it is, and what happened to it."""

    row: Row
    history: tuple[Event, ...]


class KeyTaken(Exception):
    """Another accepted booking has the same host, start and end."""


class Ledger:
    """All bookings, in the order of their creation."""

    def __init__(self) -> None:
        self._versions: dict[str, list[tuple[float, Row]]] = {}
        self._history: dict[str, list[Event]] = {}
        self._keys: dict[Key, str] = {}
        self._busy: defaultdict[int, dict[str, Row]] = defaultdict(dict)
        # Uids in the order of their arrival; who has left a booking is still led to it, and sorted out by the query.
        self._by_email: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._people = 0

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Ledger:
        """Return a ledger of bookings that were kept, all of them long since on the replica."""
        ledger = cls()
        for entry in entries:
            ledger._versions[entry.row.uid] = [(-math.inf, entry.row)]
            ledger._history[entry.row.uid] = list(entry.history)
            for person in entry.row.people:
                ledger._by_email[person.email].setdefault(entry.row.uid)
                ledger._people = max(ledger._people, person.id)
            if entry.row.key is not None:
                ledger._keys[entry.row.key] = entry.row.uid
            if entry.row.status == "accepted":
                ledger._busy[entry.row.host_id][entry.row.uid] = entry.row
        return ledger

    def entries(self) -> list[Entry]:
        """Return what `of` takes."""
        return [Entry(row, self.history(row.uid)) for row in self.rows()]

    def new_identity(self) -> tuple[int, str]:
        """Return the next id and a uid that nobody can predict."""
        return len(self._versions) + 1, "".join(secrets.choice(_UID_LETTERS) for _ in range(_UID_LENGTH))

    def enrolled(self, person: Person) -> Person:
        """Return this person with an id of his own, higher than any before."""
        self._people += 1
        return replace(person, id=self._people)

    def commit(self, what: str, request_id: str, *rows: Row) -> None:
        """Write these rows in one transaction: all, or none.

        Args:
            what: happened, for the history of each, at the moment that its row names.
            request_id: of the call that did it.
            rows: as they are from now on.

        Raises:
            KeyTaken: if one would be accepted for the host, start and end of another booking.
        """
        written = {row.uid for row in rows}
        for row in rows:
            if row.key is not None and self._keys.get(row.key, row.uid) not in written:
                raise KeyTaken
        now = time.monotonic()
        for row in rows:
            before = self.get(row.uid)
            if before is not None:
                if before.key is not None:
                    del self._keys[before.key]
                self._busy[before.host_id].pop(row.uid, None)
            for person in row.people:
                self._by_email[person.email].setdefault(row.uid)
            self._versions.setdefault(row.uid, []).append((now, row))
            self._history.setdefault(row.uid, []).append(Event(what, row.changed_at, request_id))
        for row in rows:
            if row.key is not None:
                self._keys[row.key] = row.uid
            if row.status == "accepted":
                self._busy[row.host_id][row.uid] = row

    def get(self, uid: str, *, lag: float = 0.0) -> Row | None:
        """Return a booking as it was `lag` seconds ago, or None if it was not there."""
        versions = self._versions.get(uid, [])
        if not lag:
            return versions[-1][1] if versions else None
        until = time.monotonic() - lag
        return next((row for committed, row in reversed(versions) if committed <= until), None)

    def rows(self, *, email: str | None = None, lag: float = 0.0) -> Iterator[Row]:
        """Yield all bookings, or those with this attendee or guest, as they were `lag` seconds ago."""
        uids: Iterable[str] = self._versions if email is None else self._by_email.get(email, ())
        for uid in uids:
            row = self.get(uid, lag=lag)
            if row is not None:
                yield row

    def history(self, uid: str) -> tuple[Event, ...]:
        """Return what happened to a booking, the oldest first."""
        return tuple(self._history[uid])

    def overlapping(self, host_id: int, start: datetime, end: datetime, *, except_uid: str | None = None) -> bool:
        """Tell whether the host has another accepted booking at that time, of whatever event type."""
        return any(row.start < end and start < row.end for row in self._busy[host_id].values() if row.uid != except_uid)

    def load(self, host_id: int) -> int:
        """Return how many accepted bookings the host has."""
        return len(self._busy[host_id])
