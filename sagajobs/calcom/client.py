"""The client of Cal.com's API v2.

Every call ends in a value or in one of `sagajobs.calcom.errors`; nothing else gets out, and nothing is
tried twice here: whoever runs a step knows how often it may be tried, and a second POST after a lost answer
is a second booking.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sagajobs.calcom import operations
from sagajobs.calcom.errors import CalcomError, CalcomUnavailable
from sagajobs.calcom.gate import OPEN_GATE, Gate
from sagajobs.calcom.listing import Filter, Sort
from sagajobs.calcom.models import Booking, EventType, FreeSlots, Me, checked_guests, checked_uid, timestamp
from sagajobs.calcom.priority import Priority
from sagajobs.calcom.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from types import TracebackType

    from pydantic import SecretStr

    from sagajobs.calcom.models import Location, NewBooking
    from sagajobs.calcom.operations import Operation
    from sagajobs.calcom.transport import Answer

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 15.0

TRIAL_TIMEOUT = 3.0
"""Seconds, to connect and to answer each, for the call that tells whether Cal.com works again: whoever asks may hold a
row of the database meanwhile."""

PAGE = 250  # Cal.com API v2: the most that `take` may ask for
_MOST_PAGES = 40

_Value = TypeVar("_Value")


class CalcomClient:
    """Calls Cal.com's API v2 with one API key.

    One client may be shared by threads and survives a fork: each thread of each process has its own
    connections.

    Args:
        base_url: "https://api.cal.com", or wherever else the paths `/v2/...` begin.
        api_key: sent as bearer token; kept out of every log, error and `repr`.
        connect_timeout: seconds until a connection must stand.
        read_timeout: seconds that the server may be silent.
        gate: what every call has to pass (quota, circuit breaker); the default stops none.

    Any call may raise `CalcomQuotaSpent` or `CalcomCircuitOpen` where the gate stops it: nothing was sent then.

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
        gate: Gate = OPEN_GATE,
    ) -> None:
        self._transport = Transport(base_url, api_key, connect_timeout=connect_timeout, read_timeout=read_timeout)
        self._gate = gate
        self._priority = Priority.FAR

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

    def at(self, priority: Priority) -> Self:
        """Return this client with its calls charged as `priority`; connections and gate are the same ones.

        A client that nobody called this on charges its calls as `Priority.FAR`.
        """
        view = copy.copy(self)
        view._priority = priority  # noqa: SLF001 - our own class
        return view

    def hold(self) -> float:
        """Return the seconds for which it makes no sense to call, as the gate would stop it; 0 to go ahead.

        For whoever would rather not begin than be put off. Nothing is reserved: a call may be stopped all the same.
        Where the circuit is open and a trial is due, it is made here, by a call that changes nothing, as a booking that
        is the trial costs an attempt and may end in doubt: one that reads a booking, as Cal.com may well know its users
        while its bookings fail, and that is not waited for long.
        """
        trial = operations.LIST_BOOKINGS
        wait = self._gate.hold(trial, self._priority)
        if wait > 0 or not self._gate.wants_trial():
            return wait
        try:
            query = {"take": "1", "skip": "0"}
            self._call(trial, lambda answer: answer.parse_list(Booking), query=query, at_most=TRIAL_TIMEOUT)
        except CalcomError:
            _log.debug("%s: the trial failed", trial)
        return self._gate.hold(trial, self._priority)

    def turn(self, *calls: Operation) -> float:
        """Return the seconds until the quota may have something left for each of these calls; 0 to go ahead.

        As for `hold`, nothing is reserved. Worth asking before the first of several calls: if a later one has a limit
        of its own that is used up, the earlier ones are made in vain, and again the next time.
        """
        return max(self._gate.turn(call, self._priority) for call in calls)

    def _call(self, operation: Operation, read: Callable[[Answer], _Value], **request: Any) -> _Value:
        """Pass the gate, send a call, and read its answer: one that cannot be read is a failure to the gate, too."""
        with self._gate.passing(operation, self._priority):
            return read(self._transport.call(operation, **request))

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
        return self._call(
            operations.CREATE_BOOKING,
            lambda answer: answer.parse(Booking),
            body=booking.to_json(),
            personal=booking.personal(),
        )

    def get_booking(self, uid: str) -> Booking:
        """Return one booking; cancelled ones are there too, and none is ever deleted.

        The answer comes from a replica that may lag by some seconds.

        Raises:
            BookingNotFound: no such booking, or not yet on the replica.
            CalcomRefused, CalcomRateLimited, CalcomUnavailable: as their names say.
        """
        return self._about(operations.GET_BOOKING, uid)

    def find_bookings(
        self,
        *,
        event_type_id: int | None = None,
        attendee_email: str | None = None,
        after_start: datetime | None = None,
        before_end: datetime | None = None,
        sort: Sort = Sort.START,
    ) -> list[Booking]:
        """Return every booking that matches, whatever its status.

        Each page of 250 is a call of its own, charged as such.

        The answer comes from a replica that may lag by some seconds: absence must be seen repeatedly to
        count.

        Args:
            event_type_id: what was booked.
            attendee_email: exact, upper and lower case counting.
            after_start: aware; the first start that matches.
            before_end: aware; the last end that matches.
            sort: the order; `Sort.CREATED` where bookings may be made while many pages are read.

        Raises:
            CalcomUnavailable: no usable answer, or one that does not hold all that matches.
            CalcomRefused, CalcomRateLimited: as their names say.
        """
        wanted = Filter(event_type_id, attendee_email, after_start, before_end)
        found: dict[str, Booking] = {}
        foreign = 0
        for page in self._pages(wanted, sort):
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

    def _pages(self, wanted: Filter, sort: Sort) -> Iterator[list[Booking]]:
        """Yield pages until an empty one; the totals in the answers are known to be wrong."""
        asked = wanted.query()
        seen: set[str] = set()
        skip = 0
        for _ in range(_MOST_PAGES):
            page = self._call(
                operations.LIST_BOOKINGS,
                lambda answer: answer.parse_list(Booking),
                query={**asked, sort.value: "asc", "take": str(PAGE), "skip": str(skip)},
                personal=tuple(asked.values()),
            )
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
        return self._about(operations.CANCEL_BOOKING, uid, body={"cancellationReason": reason}, personal=(reason,))

    def reschedule_booking(
        self, uid: str, start: datetime, *, reason: str, rescheduled_by: str | None = None
    ) -> Booking:
        """Move a booking, and return the NEW one that took its place; the old one is cancelled in the same act.

        Attendee, metadata and duration are carried over. Moving back is another move, to a third uid, and only
        possible while the old slot is free.

        Args:
            uid: of the booking as it stands.
            start: aware; Cal.com keeps milliseconds.
            reason: shown to host and attendee.
            rescheduled_by: e-mail address of who moves it. Where the event type needs confirmation, anybody
                but the host's own address leaves the new booking `pending`, and the old one cancelled all the same.

        Raises:
            AlreadyRescheduled: it was moved before, perhaps by our own call: read `Booking.rescheduled_to_uid`.
            AlreadyCancelled: it is cancelled.
            SlotTaken: no host is free at `start`, perhaps on account of our own move; else the old one stands.
            BookingNotFound: no such booking, or one that was declined.
            RefusalInDoubt: refused in words that leave open why.
            CalcomRefused: refused for good (in the past, out of the window or inside the notice, ...).
            CalcomOutcomeUnknown: it may have been moved; look with `get_booking` at the old uid.
            CalcomRateLimited, CalcomUnavailable: it was not moved.
        """
        body = {"start": timestamp(start), "reschedulingReason": reason}
        if rescheduled_by is not None:
            body["rescheduledBy"] = rescheduled_by
        return self._call(
            operations.RESCHEDULE_BOOKING,
            lambda answer: answer.parse_successor(uid),
            ref=checked_uid(uid),
            body=body,
            personal=(reason, rescheduled_by) if rescheduled_by else (reason,),
        )

    def confirm_booking(self, uid: str) -> Booking:
        """Confirm a pending booking, and return it.

        Cal.com does not look whether the slot is still free, and confirms what was declined as well: look first.

        Raises:
            AlreadyConfirmed: it was confirmed before, perhaps by our own call.
            BookingNotFound, RefusalInDoubt, CalcomRefused, CalcomOutcomeUnknown, CalcomRateLimited,
            CalcomUnavailable: as for `cancel_booking`.
        """
        return self._about(operations.CONFIRM_BOOKING, uid)

    def decline_booking(self, uid: str, reason: str) -> Booking:
        """Decline a pending booking, and return it.

        Args:
            uid: which one.
            reason: shown to the attendee.

        Raises:
            AlreadyConfirmed: it is not pending any more; cancel it instead.
            BookingNotFound, RefusalInDoubt, CalcomRefused, CalcomOutcomeUnknown, CalcomRateLimited,
            CalcomUnavailable: as for `cancel_booking`.
        """
        return self._about(operations.DECLINE_BOOKING, uid, body={"reason": reason}, personal=(reason,))

    def set_location(self, uid: str, location: Location) -> Booking:
        """Say where a booking takes place, and return it; people are mailed. Harmless when repeated.

        Cal.com allows 5 such calls a minute.

        Raises:
            BookingNotFound, RefusalInDoubt, CalcomRefused, CalcomOutcomeUnknown, CalcomRateLimited,
            CalcomUnavailable: as for `cancel_booking`.
        """
        body = {"location": location.to_json()}
        return self._about(operations.SET_LOCATION, uid, body=body, personal=(location.place,))

    def add_guests(self, uid: str, emails: Sequence[str]) -> Booking:
        """Add guests to a booking, and return it; they are mailed.

        Cal.com allows 5 such calls a minute, and 30 attendees in all.

        Args:
            uid: which one.
            emails: at most 10 addresses.

        Raises:
            InvalidRequest: none, or more than 10.
            BookingNotFound, RefusalInDoubt, CalcomRefused, CalcomOutcomeUnknown, CalcomRateLimited,
            CalcomUnavailable: as for `cancel_booking`.
        """
        guests = checked_guests(emails)
        body = {"guests": [{"email": email} for email in guests]}
        return self._about(operations.ADD_GUESTS, uid, body=body, personal=guests)

    def _about(self, operation: Operation, uid: str, **request: Any) -> Booking:
        """Make a call about one booking, which answers with that booking."""
        return self._call(operation, lambda answer: answer.parse(Booking, uid=uid), ref=checked_uid(uid), **request)

    def event_type(self, event_type_id: int) -> EventType:
        """Return one event type.

        Raises:
            EventTypeNotFound: no such event type for this API key.
            CalcomRefused, CalcomRateLimited, CalcomUnavailable: as their names say.
        """
        return self._call(operations.GET_EVENT_TYPE, lambda answer: answer.parse(EventType), ref=str(event_type_id))

    def free_slots(self, event_type_id: int, first: datetime, last: datetime) -> list[datetime]:
        """Return when an event type can be booked in its usual length, the first one first.

        One that is shown may be refused all the same: nothing reserves it, and calendars beside Cal.com's are cached.

        Args:
            event_type_id: what is to be booked.
            first: aware; the first start that counts.
            last: aware; no start from here on. Cal.com looks a year ahead at the most.

        Raises:
            EventTypeNotFound: no such event type for this API key.
            CalcomRefused, CalcomRateLimited, CalcomUnavailable: as their names say.
        """
        query = {"eventTypeId": str(event_type_id), "start": timestamp(first), "end": timestamp(last)}
        found = self._call(operations.GET_SLOTS, lambda answer: answer.parse(FreeSlots), query=query)
        # Cal.com takes an end at midnight UTC for the end of that day.
        return [start for start in found.starts if first <= start < last]

    def me(self) -> Me:
        """Return the user whom the API key belongs to: the way to check a key.

        Raises:
            BadCredentials: the key is not accepted.
            CalcomRefused, CalcomRateLimited, CalcomUnavailable: as their names say.
        """
        return self._call(operations.ME, lambda answer: answer.parse(Me))
