"""The client of Cal.com's API v2.

Every call ends in a value or in one of `sagajobs.calcom.errors`; nothing else gets out, and nothing is
tried twice here: whoever runs a step knows how often it may be tried, and a second POST after a lost answer
is a second booking.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from sagajobs.calcom import operations
from sagajobs.calcom.errors import CalcomUnavailable
from sagajobs.calcom.models import Booking, EventType, Me, checked_uid, timestamp
from sagajobs.calcom.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from types import TracebackType

    from pydantic import SecretStr

    from sagajobs.calcom.models import NewBooking

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 15.0

PAGE = 250  # Cal.com API v2: the most that `take` may ask for
_MOST_PAGES = 40


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which bookings are looked for: as a question to the server, and as a check of its answer."""

    event_type_id: int | None
    attendee_email: str | None
    after_start: datetime | None
    before_end: datetime | None

    def query(self) -> dict[str, str]:
        query = {}
        if self.event_type_id is not None:
            query["eventTypeId"] = str(self.event_type_id)
        if self.attendee_email is not None:
            query["attendeeEmail"] = self.attendee_email
        if self.after_start is not None:
            query["afterStart"] = timestamp(self.after_start)
        if self.before_end is not None:
            query["beforeEnd"] = timestamp(self.before_end)
        return query

    def matches(self, booking: Booking) -> bool:
        return (
            (self.event_type_id is None or booking.event_type_id == self.event_type_id)
            and (self.attendee_email is None or self.attendee_email in _addresses(booking))
            # Compared as written: Cal.com keeps milliseconds only.
            and (self.after_start is None or timestamp(booking.start) >= timestamp(self.after_start))
            and (self.before_end is None or timestamp(booking.end) <= timestamp(self.before_end))
        )


def _addresses(booking: Booking) -> set[str | None]:
    """Return every address that the server's filter looks at; guests are attendees in its database."""
    return {attendee.email for attendee in booking.attendees} | set(booking.guests)


class CalcomClient:
    """Calls Cal.com's API v2 with one API key.

    One client may be shared by threads and survives a fork: each thread of each process has its own
    connections.

    Args:
        base_url: "https://api.cal.com", or wherever else the paths `/v2/...` begin.
        api_key: sent as bearer token; kept out of every log, error and `repr`.
        connect_timeout: seconds until a connection must stand.
        read_timeout: seconds that the server may be silent.

    Raises:
        ConfigurationError: if the URL or the key cannot be right.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | str,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self._transport = Transport(base_url, api_key, connect_timeout=connect_timeout, read_timeout=read_timeout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the calling thread's connections; another thread's go when that thread ends."""
        self._transport.close()

    def create_booking(self, booking: NewBooking) -> Booking:
        """Make a booking, and return it as Cal.com has it.

        For an event type that needs confirmation or is round robin, the same attendee and start give the
        EXISTING booking, with the metadata of the first call: compare the metadata before taking it for
        one's own.

        Raises:
            SlotTaken: no host is free, perhaps because of an earlier call of our own.
            RefusalInDoubt: refused in words that leave open why.
            CalcomRefused: refused for good (`EventTypeNotFound`, `BadCredentials`, ...).
            CalcomOutcomeUnknown: it may have been made; look with `find_bookings`.
            CalcomRateLimited, CalcomUnavailable: it was not made.
        """
        answer = self._transport.call(operations.CREATE_BOOKING, body=booking.to_json(), personal=booking.personal())
        return answer.parse(Booking)

    def get_booking(self, uid: str) -> Booking:
        """Return one booking; cancelled ones are there too, and none is ever deleted.

        The answer comes from a replica that may lag by some seconds.

        Raises:
            BookingNotFound: no such booking, or not yet on the replica.
            CalcomRefused, CalcomRateLimited, CalcomUnavailable: as their names say.
        """
        answer = self._transport.call(operations.GET_BOOKING, ref=checked_uid(uid))
        return answer.parse(Booking, uid=uid)

    def find_bookings(
        self,
        *,
        event_type_id: int | None = None,
        attendee_email: str | None = None,
        after_start: datetime | None = None,
        before_end: datetime | None = None,
    ) -> list[Booking]:
        """Return every booking that matches, whatever its status, the earliest first.

        The answer comes from a replica that may lag by some seconds: absence must be seen repeatedly to
        count.

        Args:
            event_type_id: what was booked.
            attendee_email: exact, upper and lower case counting.
            after_start: aware; the first start that matches.
            before_end: aware; the last end that matches.

        Raises:
            CalcomUnavailable: no usable answer, or one that does not hold all that matches.
            CalcomRefused, CalcomRateLimited: as their names say.
        """
        wanted = _Filter(event_type_id, attendee_email, after_start, before_end)
        found: dict[str, Booking] = {}
        foreign = 0
        for page in self._pages(wanted.query()):
            matching = [booking for booking in page if wanted.matches(booking)]
            found.update((booking.uid, booking) for booking in matching)
            foreign += len(page) - len(matching)
            # A short page is the last one, as long as the server understood the question. One that fell
            # back to an older API ignores filters and page sizes alike; then only an empty page proves the
            # end.
            if len(page) < PAGE and not foreign:
                break
        if foreign:
            _log.warning(
                "%s ignored its filters: %d bookings dropped, %d kept",
                operations.LIST_BOOKINGS,
                foreign,
                len(found),
            )
        return list(found.values())

    def _pages(self, query: dict[str, str]) -> Iterator[list[Booking]]:
        """Yield pages until an empty one; the totals in the answers are known to be wrong."""
        seen: set[str] = set()
        skip = 0
        for _ in range(_MOST_PAGES):
            answer = self._transport.call(
                operations.LIST_BOOKINGS,
                query={**query, "take": str(PAGE), "skip": str(skip)},
                personal=tuple(query.values()),
            )
            page = answer.parse_list(Booking)
            if not page:
                return
            yield page
            new = {booking.uid for booking in page} - seen
            if not new:
                break
            seen |= new
            skip += len(page)
        raise CalcomUnavailable(f"{operations.LIST_BOOKINGS}: the pages come to no end")

    def cancel_booking(self, uid: str, reason: str) -> Booking:
        """Cancel a booking, and return it; the returned state may be that of just before.

        Args:
            uid: which one.
            reason: never empty, for hosts are asked for one.

        Raises:
            AlreadyCancelled: it was cancelled before, or this is the old uid of a moved one.
            BookingEnded, BookingNotFound, CalcomRefused: it was not cancelled and will not be.
            RefusalInDoubt: refused in words that leave open why.
            CalcomOutcomeUnknown: it may have been cancelled; look with `get_booking`.
            CalcomRateLimited, CalcomUnavailable: it was not cancelled.
        """
        answer = self._transport.call(
            operations.CANCEL_BOOKING,
            ref=checked_uid(uid),
            body={"cancellationReason": reason},
            personal=(reason,),
        )
        return answer.parse(Booking, uid=uid)

    def event_type(self, event_type_id: int) -> EventType:
        """Return one event type.

        Raises:
            EventTypeNotFound: no such event type for this API key.
            CalcomRefused, CalcomRateLimited, CalcomUnavailable: as their names say.
        """
        return self._transport.call(operations.GET_EVENT_TYPE, ref=str(event_type_id)).parse(EventType)

    def me(self) -> Me:
        """Return the user whom the API key belongs to: the way to check a key.

        Raises:
            BadCredentials: the key is not accepted.
            CalcomRefused, CalcomRateLimited, CalcomUnavailable: as their names say.
        """
        return self._transport.call(operations.ME).parse(Me)
