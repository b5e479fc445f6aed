"""What is booked in the demonstration, and what goes wrong meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from sqlalchemy import Connection, insert

from sagajobs.booking import BookingRequest, Customer, Slot
from sagajobs.booking.schema import staff
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.models import NewBooking

HOSTS = 5
"""The simulator's hosts have the ids 1 to 5, and so have the event types of half an hour with each of them."""

MINUTES = 30
_EVERY = 10
_TAKEN_AT_CALCOM = 7
_TAKEN_HERE = 9
"""Of ten requests, the numbers of those whose slot somebody has taken."""

FIRST_FAULTS: tuple[dict[str, Any], ...] = (
    # Booked, and the answer is late: time enough to kill the worker that waits for it.
    {"operation": "create", "kind": "slow", "when": "after", "seconds": 0.9, "count": 4},
    {"operation": "create", "kind": "timeout", "when": "after", "count": 2},
    {"operation": "create", "kind": "http_503", "when": "before", "count": 3},
)
SECOND_FAULTS: tuple[dict[str, Any], ...] = (
    {"operation": "create", "kind": "slow", "when": "after", "seconds": 0.9, "count": 4},
    {"operation": "create", "kind": "http_500", "when": "after", "count": 2},
    {"operation": "create", "kind": "drop", "when": "after", "count": 2},
    {"operation": "list", "kind": "http_500", "when": "before", "count": 1},
)
THIRD_FAULTS: tuple[dict[str, Any], ...] = (
    {"operation": "reschedule", "kind": "timeout", "when": "after", "count": 1},
    {"operation": "cancel", "kind": "http_500", "when": "after", "count": 1},
    {"operation": "create", "kind": "drop", "when": "after", "count": 1},
)
"""Faults that are set before the first and the second half of the bookings, and before the changes."""

_CHANGED = 5
"""Of so many bookings one appointment is changed afterwards."""

_COMBINED = 20
"""For so many bookings one order of several appointments at once."""


def first_slot() -> datetime:
    """Return the first time that is booked: tomorrow at nine."""
    return (datetime.now(UTC) + timedelta(days=1)).replace(hour=9, minute=0, second=0, microsecond=0)


def hire(connection: Connection) -> None:
    """Insert a staff member for each of the simulator's hosts."""
    people = [
        {"id": host, "name": f"Host {host}", "email": f"host{host}@example.com", "calcom_user_id": host}
        for host in range(1, HOSTS + 1)
    ]
    connection.execute(insert(staff), people)


def bookings(first: datetime, count: int) -> Iterator[BookingRequest]:
    """Yield the requests: each host's half hours one after the other, some of them twice."""
    for number in range(count):
        # The tenth asks for what the fifth got: the same host, the same time.
        place = number - HOSTS if number % _EVERY == _TAKEN_HERE else number
        yield BookingRequest(
            customer=Customer(name=f"Customer {number}", email=f"customer{number}@example.org"),
            event_type_id=place % HOSTS + 1,
            start=first + timedelta(minutes=MINUTES) * (place // HOSTS),
            duration_minutes=MINUTES,
            staff_id=place % HOSTS + 1,
        )


def sagas(bookings: int) -> int:
    """Return how many sagas the demonstration starts for so many bookings."""
    return bookings + bookings // _CHANGED + 2 * (bookings // _COMBINED)


def changes(appointments: Sequence[int], bookings: int, first: datetime) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield what is to be changed: appointment, operation, data; moved and cancelled in turn.

    Args:
        appointments: ids of those that are booked.
        bookings: how many bookings were asked for.
        first: the first time that was booked; moved ones go to the day after, each to a time of its own.
    """
    for number, appointment in enumerate(appointments[: bookings // _CHANGED]):
        if number % 2:
            yield appointment, "cancel", {"reason": "The customer cannot come."}
        else:
            yield appointment, "reschedule", {"start": first + timedelta(days=1, minutes=MINUTES * number)}


def orders(first: datetime, bookings: int) -> Iterator[tuple[Customer, list[Slot]]]:
    """Yield orders of three appointments at once, in pairs: the second of a pair wants a slot that the first got.

    Without a staff member of ours, so that it is Cal.com who finds out, with the other two perhaps booked by then.
    """
    for number in range(2 * (bookings // _COMBINED)):
        customer = Customer(name=f"Group {number}", email=f"group{number}@example.org")
        start = first + timedelta(days=2, minutes=MINUTES * (number // 2))
        hosts = (1, 2, 3) if number % 2 == 0 else (4, 5, 3)
        yield customer, [Slot(event_type_id=host, start=start, duration_minutes=MINUTES) for host in hosts]


def book_as_somebody_else(client: CalcomClient, wanted: list[BookingRequest]) -> int:
    """Take some of the wanted slots at Cal.com, past us; return how many."""
    taken = wanted[_TAKEN_AT_CALCOM::_EVERY]
    for request in taken:
        client.create_booking(
            NewBooking(
                event_type_id=request.event_type_id,
                start=request.start,
                attendee_name="Somebody Else",
                attendee_email="somebody.else@example.net",
                attendee_time_zone="UTC",
            )
        )
    return len(taken)


class Control:
    """The simulator's other side: faults to set, and the ledger of what really happened.

    Args:
        url: of the simulator.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/_simulator"

    def spoil(self, faults: tuple[dict[str, Any], ...]) -> None:
        """Put faults in force."""
        for fault in faults:
            requests.post(f"{self._url}/faults", json=fault, timeout=5).raise_for_status()

    def fired(self) -> dict[str, int]:
        """Return how often which fault fired."""
        fired: Counter[str] = Counter()
        for fault in self._get("faults"):
            fired[f"{fault['kind']} {fault['when']}"] += fault["fired"]
        return dict(fired)

    def ledger(self) -> list[dict[str, Any]]:
        """Return all bookings as they really are."""
        return self._get("bookings", "ledger")

    def _get(self, key: str, path: str | None = None) -> list[dict[str, Any]]:
        answer = requests.get(f"{self._url}/{path or key}", timeout=5)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()[key]
        return found
