"""GET /v2/bookings: reading its parameters, and answering with what they select."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sagajobs.calcom.simulator.ledger import Row
from sagajobs.calcom.simulator.replies import invalid

MAX_TAKE = 250
DEFAULT_TAKE = 100

_Test = Callable[[Row], bool]

_GONE = frozenset({"cancelled", "rejected"})

# The values of `status` are views and no booking statuses: "upcoming" holds pending ones too, "cancelled"
# rejected ones. There are no recurring bookings here.
_VIEWS: dict[str, Callable[[Row, datetime], bool]] = {
    "upcoming": lambda row, now: row.end > now and row.status not in _GONE,
    "recurring": lambda _row, _now: False,
    "past": lambda row, now: row.end <= now and row.status not in _GONE,
    "cancelled": lambda row, _now: row.status in _GONE,
    "unconfirmed": lambda row, now: row.end > now and row.status == "pending",
}

_SORTS: dict[str, Callable[[Row], datetime]] = {
    "sortStart": lambda row: row.start,
    "sortEnd": lambda row: row.end,
    "sortCreated": lambda row: row.created_at,
    "sortUpdatedAt": lambda row: row.changed_at,
}

# Both ends of every range belong to it.
_BOUNDS: dict[str, Callable[[Row, datetime], bool]] = {
    "afterStart": lambda row, bound: row.start >= bound,
    "beforeEnd": lambda row, bound: row.end <= bound,
}
# The counts in the answer leave these out: a bug of the service that clients must live with.
_UNCOUNTED_BOUNDS: dict[str, Callable[[Row, datetime], bool]] = {
    "afterCreatedAt": lambda row, bound: row.created_at >= bound,
    "beforeCreatedAt": lambda row, bound: row.created_at <= bound,
    "afterUpdatedAt": lambda row, bound: row.updated_at is not None and row.updated_at >= bound,
    "beforeUpdatedAt": lambda row, bound: row.updated_at is not None and row.updated_at <= bound,
}


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What to select, in which order, and which page of it."""

    email: str | None
    counted: tuple[_Test, ...]
    uncounted: tuple[_Test, ...]
    sorts: tuple[tuple[Callable[[Row], datetime], bool], ...]
    take: int
    skip: int


def read_query(query: Mapping[str, str], now: datetime) -> ListQuery:
    """Read the parameters of GET /v2/bookings; unknown ones are ignored.

    Raises:
        Refusal: 400, with one entry per parameter that is wrong.
    """
    return _Reader(query, now).read()


class _Reader:
    """Reads parameters one by one and collects what is wrong with them."""

    def __init__(self, query: Mapping[str, str], now: datetime) -> None:
        self._query = query
        self._now = now
        self._errors: list[str] = []

    def read(self) -> ListQuery:
        take = self._number("take", DEFAULT_TAKE, 1, MAX_TAKE)
        skip = self._number("skip", 0, 0, None)
        counted = (*self._equalities(), *self._views(), *self._bounds(_BOUNDS))
        uncounted = tuple(self._bounds(_UNCOUNTED_BOUNDS))
        sorts = tuple(self._sorts())
        if self._errors:
            raise invalid(*self._errors)
        return ListQuery(self._query.get("attendeeEmail"), counted, uncounted, sorts, take, skip)

    def _number(self, name: str, default: int, least: int, most: int | None) -> int:
        text = self._query.get(name)
        if text is None:
            return default
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            self._errors.append(f"{name} must be a number from {least}" + (f" to {most}" if most else ""))
            return default
        return int(text)

    def _equalities(self) -> list[_Test]:
        tests: list[_Test] = []
        if (email := self._query.get("attendeeEmail")) is not None:
            tests.append(lambda row: any(person.email == email for person in row.people))
        if (name := self._query.get("attendeeName")) is not None:
            tests.append(lambda row: any(person.name == name for person in row.people))
        if (uid := self._query.get("bookingUid")) is not None:
            tests.append(lambda row: uid == row.uid)
        for parameter in ("eventTypeId", "eventTypeIds"):
            ids = self._ids(parameter)
            if ids is not None:
                tests.append(lambda row, ids=ids: row.event_type_id in ids)  # type: ignore[misc]
        if self._ids("teamId") is not None or self._ids("teamsIds") is not None:
            tests.append(lambda _row: False)
        return tests

    def _ids(self, name: str) -> frozenset[int] | None:
        text = self._query.get(name)
        if text is None:
            return None
        parts = text.split(",")
        if not all(part.isdecimal() for part in parts):
            self._errors.append(f"{name} must be numbers")
            return None
        return frozenset(int(part) for part in parts)

    def _views(self) -> list[_Test]:
        text = self._query.get("status")
        if text is None:
            return []
        names = text.split(",")
        if not all(name in _VIEWS for name in names):
            self._errors.append(f"each value in status must be one of {', '.join(_VIEWS)}")
            return []
        views = [_VIEWS[name] for name in names]
        return [lambda row: any(view(row, self._now) for view in views)]

    def _bounds(self, known: Mapping[str, Callable[[Row, datetime], bool]]) -> list[_Test]:
        tests: list[_Test] = []
        for name, test in known.items():
            text = self._query.get(name)
            if text is None:
                continue
            try:
                bound = datetime.fromisoformat(text)
            except ValueError:
                self._errors.append(f"{name} must be a valid ISO 8601 date string")
                continue
            bound = bound if bound.tzinfo else bound.replace(tzinfo=UTC)
            tests.append(lambda row, test=test, bound=bound: test(row, bound))  # type: ignore[misc]
        return tests

    def _sorts(self) -> list[tuple[Callable[[Row], datetime], bool]]:
        sorts = []
        for name, key in _SORTS.items():
            order = self._query.get(name)
            if order is None:
                continue
            if order not in {"asc", "desc"}:
                self._errors.append(f"{name} must be asc or desc")
            sorts.append((key, order == "desc"))
        return sorts


def select(rows: list[Row], query: ListQuery) -> tuple[list[Row], int]:
    """Return the page that was asked for, and the total that the service would claim."""
    counted = [row for row in rows if all(test(row) for test in query.counted)]
    selected = [row for row in counted if all(test(row) for test in query.uncounted)]
    # What is equal by the orders that were asked for goes by start and id, in the direction of the last of them.
    selected.sort(key=lambda row: (row.start, row.id), reverse=bool(query.sorts and query.sorts[-1][1]))
    for key, descending in reversed(query.sorts):
        selected.sort(key=key, reverse=descending)
    return selected[query.skip : query.skip + query.take], len(counted)


def pagination(query: ListQuery, total: int) -> dict[str, Any]:
    """Return the counts as the service computes them: from the total alone, whatever the page holds."""
    pages = math.ceil(total / query.take)
    current = query.skip // query.take + 1 if total else 0
    return {
        "totalItems": total,
        "remainingItems": max(0, total - query.skip - query.take),
        "returnedItems": max(0, min(query.take, total - query.skip)),
        "itemsPerPage": query.take,
        "currentPage": current,
        "totalPages": pages,
        "hasNextPage": current < pages,
        "hasPreviousPage": current > 1,
    }
