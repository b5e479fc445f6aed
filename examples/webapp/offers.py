"""What can be booked here, and when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from threading import Lock
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cachetools import TTLCache, cached

from sagajobs import find_free_slots

SHOWN_DAYS = 5
"""Days whose free times a page shows."""

REMEMBERED = 3.0
"""Seconds for which free times are: many visitors at once must not use up the quota that bookings need."""

ZONES = sorted({"UTC", *(name for name in available_timezones() if "/" in name and not name.startswith("Etc/"))})
"""The time zones to choose from."""


class Offer(NamedTuple):
    """Something to book.

    Attributes:
        title: what customers call it.
        minutes: how long it takes, as Cal.com's event type says.
    """

    title: str
    minutes: int


OFFERS = {
    1: Offer("Half an hour with Host One", 30),
    2: Offer("Half an hour with Host Two", 30),
    7: Offer("Half an hour on request", 30),
    8: Offer("Half an hour with whoever is free", 30),
}
"""By Cal.com's number for the event type; these are its simulator's."""


class Day(NamedTuple):
    """A day in the customer's time zone, and the starts that are free on it."""

    name: str
    starts: tuple[datetime, ...]


def free_days(offer: int, first: date, zone: ZoneInfo) -> list[Day]:
    """Return the free times of some days, by day.

    Args:
        offer: one of `OFFERS`.
        first: the day to begin with; one in the past is today.
        zone: the customer's time zone, in which the times are returned.

    Raises:
        CalcomError: Cal.com cannot say now.
    """
    now = datetime.now(UTC)
    begin = max(now.astimezone(zone).date(), first)
    until = datetime.combine(begin + timedelta(days=SHOWN_DAYS), time(), zone).astimezone(UTC)
    starts = [
        one.astimezone(zone) for one in _free(offer, datetime.combine(begin, time(), zone).astimezone(UTC), until)
    ]
    return list(_by_day(start for start in starts if start > now))


@cached(TTLCache(256, REMEMBERED), lock=Lock())
def _free(offer: int, first: datetime, last: datetime) -> list[datetime]:
    return find_free_slots(offer, first, last)


def _by_day(starts: Iterable[datetime]) -> Iterable[Day]:
    for day, times in groupby(starts, lambda start: start.date()):
        yield Day(f"{day:%A, %-d %B}", tuple(times))


def spoken(start: datetime, time_zone: str) -> str:
    """Return a start as a customer reads it, in his time zone."""
    return f"{start.astimezone(ZoneInfo(time_zone)):%A, %-d %B %Y, %H:%M} ({time_zone})"
