"""Slots that can be booked, and reservations, which hide slots and lock nothing: /v2/slots."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sagajobs.calcom.simulator.availability import free_hosts, in_bounds
from sagajobs.calcom.simulator.fields import is_zone, read_integer, read_moment, read_object
from sagajobs.calcom.simulator.output import moment
from sagajobs.calcom.simulator.replies import invalid, nest, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sagajobs.calcom.simulator.ledger import Row
    from sagajobs.calcom.simulator.state import State
    from sagajobs.calcom.simulator.world import EventType

_DAY_BEGINS, _DAY_ENDS = time(9), time(17)
"""When hosts can be booked according to slots, every day, in the time zone of the event type's first host. Bookings are
not held to it."""

_DEFAULT_RESERVATION = 5
"""Minutes."""

_LONGEST = timedelta(days=366)
"""What can be asked for at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A slot that is hidden until `until`."""

    uid: str
    event_type_id: int
    start: datetime
    end: datetime
    until: datetime

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "eventTypeId": self.event_type_id,
            "slotStart": moment(self.start),
            "slotEnd": moment(self.end),
            "slotDuration": _minutes(self.end - self.start),
            "reservationUid": self.uid,
            "reservationUntil": moment(self.until),
        }


class Reservations:
    """All reservations, those that are over too."""

    def __init__(self) -> None:
        self._all: dict[str, Reservation] = {}

    def add(self, reservation: Reservation) -> None:
        """Keep one."""
        self._all[reservation.uid] = reservation

    def get(self, uid: str, now: datetime) -> Reservation | None:
        """Return one that is not over, or None."""
        found = self._all.get(uid)
        return found if found is not None and found.until > now else None

    def remove(self, uid: str) -> None:
        """Drop one, if it is there."""
        self._all.pop(uid, None)

    def overlapping(self, event_type: EventType, start: datetime, end: datetime, now: datetime) -> int:
        """Return how many slots of an event type are reserved at that time."""
        return sum(
            one.event_type_id == event_type.id and one.start < end and start < one.end and one.until > now
            for one in self._all.values()
        )


def reserve(state: State, content: bytes, *, authenticated: bool) -> dict[str, Any]:
    """Reserve what a body of POST /v2/slots/reservations asks for.

    Raises:
        Refusal: 400, 401, 404; 422 where it is booked or reserved.
    """
    body = read_object(content)
    event_type = _event_type(state, read_integer(body, "eventTypeId"))
    start = read_moment(body, "slotStart")
    own_duration = read_integer(body, "reservationDuration")
    if own_duration is not None and not authenticated:
        raise nest(
            401,
            "reservationDuration can only be used for authenticated requests - use access token, api key or OAuth "
            "credentials",
        )
    if own_duration is not None and own_duration < 1:
        raise invalid("reservationDuration must not be less than 1")
    end = start + timedelta(minutes=_slot_length(event_type, read_integer(body, "slotDuration")))
    _refuse_taken(state, event_type, start, end)
    duration = own_duration or _DEFAULT_RESERVATION
    reservation = Reservation(
        uid=str(uuid.uuid4()),
        event_type_id=event_type.id,
        start=start,
        end=end,
        until=state.now + timedelta(minutes=duration),
    )
    state.reservations.add(reservation)
    return reservation.to_json() | {"reservationDuration": duration}


def _event_type(state: State, event_type_id: int | None) -> EventType:
    if event_type_id is None:
        raise invalid("eventTypeId must be a number")
    found = state.world.event_type(event_type_id)
    if found is None:
        raise nest(404, f"Event Type with ID={event_type_id} not found")
    return found


def _slot_length(event_type: EventType, asked: int | None) -> int:
    if asked is None:
        return event_type.length
    if not event_type.lengths:
        raise nest(400, "You passed 'slotDuration' but this event type is not a variable length event type.")
    if asked not in event_type.lengths:
        lengths = ", ".join(map(str, event_type.lengths))
        raise nest(
            400,
            "Provided 'slotDuration' is not one of the possible lengths for the event type. The possible lengths for "
            f"this variable length event type are: {lengths}",
        )
    return asked


def _refuse_taken(state: State, event_type: EventType, start: datetime, end: datetime) -> None:
    if event_type.round_robin:
        if not _is_free(state, event_type, start, end):
            raise nest(422, "All round robin hosts are already booked or reserved at this time.")
        return
    if not free_hosts(state, event_type.hosts, start, end):
        raise nest(422, "Can't reserve a slot if the event is already booked.")
    if state.reservations.overlapping(event_type, start, end, state.now):
        raise nest(422, "This time slot is already reserved by another user. Please choose a different time.")


def _is_free(state: State, event_type: EventType, start: datetime, end: datetime, *, moved: Row | None = None) -> bool:
    """Tell whether more hosts are free than slots are reserved."""
    free = free_hosts(state, event_type.hosts, start, end, moved=moved)
    return len(free) > state.reservations.overlapping(event_type, start, end, state.now)


def available(state: State, query: Mapping[str, str]) -> dict[str, list[dict[str, str]]]:
    """Return the slots that a query asks for, by day.

    Raises:
        Refusal: 400, 404, or 501 for the slots of teams and of several users.
    """
    event_type = _asked_for(state, query)
    first, last = _bound(query, "start"), _bound(query, "end", is_end=True)
    if not first < last <= first + _LONGEST:
        raise nest(400, "Invalid time range given - check the 'start' and 'end' query parameters.")
    zone, length = _zone(query), _length(event_type, query)
    if query.get("format") not in {None, "time", "range"}:
        raise invalid("format must be one of time, range")
    moved = state.ledger.get(query.get("bookingUidToReschedule", ""))
    days: dict[str, list[dict[str, str]]] = {}
    for start in _starts(state, event_type, first, last, length):
        end = start + length
        if (
            start > state.now
            and in_bounds(state, event_type, start)
            and _is_free(state, event_type, start, end, moved=moved)
        ):
            slot = {"start": _local(start, zone)}
            if query.get("format") == "range":
                slot["end"] = _local(end, zone)
            days.setdefault(start.astimezone(zone).date().isoformat(), []).append(slot)
    return days


def _asked_for(state: State, query: Mapping[str, str]) -> EventType:
    for name in ("teamSlug", "usernames"):
        if name in query:
            raise plain(501, f"{name} is not simulated")
    number, slug, username = (query.get(name) for name in ("eventTypeId", "eventTypeSlug", "username"))
    if number is not None and not number.isdecimal():
        raise invalid("eventTypeId must be a number")
    if number is None and not (slug and username):
        raise invalid("give eventTypeId, or eventTypeSlug with username")
    found = (
        state.world.event_type(int(number))
        if number is not None
        else state.world.event_type_by_slug(slug or "", username or "")
    )
    if found is None:
        raise nest(404, "Event Type not found")
    return found


def _bound(query: Mapping[str, str], name: str, *, is_end: bool = False) -> datetime:
    """Return one end of what is asked for; a day without a time is that whole day in UTC."""
    try:
        bound = datetime.fromisoformat(query.get(name, ""))
    except ValueError:
        raise invalid(f"{name} must be a valid ISO 8601 date string") from None
    bound = (bound if bound.tzinfo else bound.replace(tzinfo=UTC)).astimezone(UTC)
    return bound + timedelta(days=1) if is_end and bound.time() == time() else bound


def _zone(query: Mapping[str, str]) -> ZoneInfo:
    name = query.get("timeZone", "UTC")
    if not is_zone(name):
        raise invalid("timeZone must be a valid IANA time-zone")
    return ZoneInfo(name)


def _length(event_type: EventType, query: Mapping[str, str]) -> timedelta:
    text = query.get("duration")
    if text is not None and not text.isdecimal():
        raise invalid("duration must be a number")
    length = int(text) if text is not None else event_type.length
    if length not in {event_type.length, *event_type.lengths}:
        raise nest(400, f"Event type with id={event_type.id} does not support duration={length}")
    return timedelta(minutes=length)


def _starts(
    state: State, event_type: EventType, first: datetime, last: datetime, length: timedelta
) -> Iterator[datetime]:
    """Yield the starts of all slots from `first` on and before `last`, free or not."""
    zone = ZoneInfo(state.world.host(event_type.hosts[0]).time_zone)
    day = first.astimezone(zone).date()
    while day <= last.astimezone(zone).date():
        start = datetime.combine(day, _DAY_BEGINS, zone).astimezone(UTC)
        closing = datetime.combine(day, _DAY_ENDS, zone).astimezone(UTC)
        while start + length <= closing:
            if first <= start < last:
                yield start
            start += length
        day += timedelta(days=1)


def _local(value: datetime, zone: ZoneInfo) -> str:
    return value.astimezone(zone).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _minutes(value: timedelta) -> int:
    return round(value.total_seconds() / 60)
