"""The cache as a rehearsed step finds it: it is read, and what would be forgotten is written down instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from sagajobs.booking.appointment import AppointmentSummary
from sagajobs.booking.cache import AppointmentCache
from sagajobs.errors import RehearsalOver


class RehearsalCache(AppointmentCache):
    """Reads like another cache, and forgets nothing.

    Args:
        cache: the other one.
        calls: the list that is written to; see `Saga.rehearse`.
    """

    def __init__(self, cache: AppointmentCache, calls: list[Mapping[str, Any]]) -> None:
        self._cache = cache
        self._calls = calls

    def get(self, appointment_id: int) -> AppointmentSummary | None:
        """Return an appointment as the other cache does."""
        return self._cache.get(appointment_id)

    def invalidate(self, appointment_id: int) -> NoReturn:
        """Put on the list what would be forgotten; raises `RehearsalOver`."""
        self._calls.append({"method": "DEL", "path": self._cache.key(appointment_id), "body": None, "masked": None})
        raise RehearsalOver
