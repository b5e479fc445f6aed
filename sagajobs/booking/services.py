"""What booking sagas are given to work with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from cachetools import TTLCache

from sagajobs.booking.cache import AppointmentCache
from sagajobs.booking.rehearsal import RehearsalCache
from sagajobs.calcom.circuit import Circuit
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.errors import CalcomError, EventTypeNotFound
from sagajobs.calcom.models import EventType
from sagajobs.calcom.rehearsal import rehearsing

KNOWN_FOR = 300.0
"""Seconds for which an event type is remembered: a web request should not wait for Cal.com to be checked."""

UNKNOWN_FOR = 15.0
"""Seconds for which an unknown one is: somebody may just be creating it."""

AWAY_FOR = 5.0
"""Seconds for which Cal.com is not asked again after it did not answer: not every request must wait for a time-out."""

QUICKLY = 2.0
"""Seconds, to connect and to answer each, that a look at an event type may take: it may hold up a web request, in the
middle of its transaction."""


class EventTypes:
    """Cal.com's event types, remembered for a while.

    Args:
        client: returns the client; asked at the first use.
    """

    def __init__(self, client: Callable[[], CalcomClient]) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: TTLCache[int, EventType] = TTLCache(1000, KNOWN_FOR)
        self._unknown: TTLCache[int, str] = TTLCache(1000, UNKNOWN_FOR)
        self._away: TTLCache[str, bool] = TTLCache(1, AWAY_FOR)

    def forget(self) -> None:
        """Forget all of them, so that the next look asks Cal.com."""
        with self._lock:
            self._known.clear()
            self._unknown.clear()
            self._away.clear()

    def get(self, event_type_id: int) -> EventType | None:
        """Return an event type, or None if Cal.com cannot be asked now.

        Raises:
            EventTypeNotFound: Cal.com does not know it.
        """
        with self._lock:
            if event_type_id in self._unknown:
                raise EventTypeNotFound(self._unknown[event_type_id])
            if event_type_id in self._known:
                return self._known[event_type_id]
            if "away" in self._away:
                return None
        try:
            found = self._client().event_type(event_type_id)
        except EventTypeNotFound as error:
            with self._lock:
                self._unknown[event_type_id] = str(error)
            raise
        except CalcomError:
            # Cal.com being away must not keep anybody from booking: the saga will find out.
            with self._lock:
                self._away["away"] = True
            return None
        with self._lock:
            self._known[event_type_id] = found
        return found


@dataclass(frozen=True)
class BookingServices:
    """What booking sagas are given to work with.

    Attributes:
        client: returns the Cal.com client; asked at the first use, so that importing a saga needs no settings.
        event_types: Cal.com's event types, remembered for a while.
        cache: what web applications read of appointments.
        circuit: returns the circuit breaker of calls to Cal.com, None if there is none.
        actor: who the audit trail names.
    """

    client: Callable[[], CalcomClient]
    event_types: EventTypes
    cache: AppointmentCache
    circuit: Callable[[], Circuit | None]
    actor: str = "sagajobs"

    @property
    def calcom(self) -> CalcomClient:
        """The Cal.com client."""
        return self.client()

    def conditions(self) -> dict[str, Any]:
        """Return how Cal.com's circuit stands, for the history of a retry (`Saga.conditions`)."""
        circuit = self.circuit()
        return {} if circuit is None else {"circuit": circuit.state()}

    def rehearsing(self) -> tuple[Self, list[Mapping[str, Any]]]:
        """Return services that read, and the list on which they put what they would change instead of changing it."""
        calls: list[Mapping[str, Any]] = []
        cache = RehearsalCache(self.cache, calls)
        return replace(self, client=lambda: rehearsing(self.client(), calls), cache=cache), calls
