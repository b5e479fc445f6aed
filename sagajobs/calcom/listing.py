"""Which bookings are listed, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sagajobs.calcom.models import timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from sagajobs.calcom.models import Booking


class Sort(StrEnum):
    """By what a list is sorted, the least first; the values are Cal.com's names.

    Pages are counted off, so a booking that is made while they are read can push another one over the edge of
    a page. Sorted by `CREATED`, new ones come last and push nothing.
    """

    START = "sortStart"
    CREATED = "sortCreated"
    UPDATED = "sortUpdatedAt"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which bookings are looked for: as a question to the server, and as a check of its answer.

    Args:
        event_type_id: what was booked.
        attendee_email: exact, upper and lower case counting.
        after_start: aware; the first start that matches.
        before_end: aware; the last end that matches.
    """

    event_type_id: int | None
    attendee_email: str | None
    after_start: datetime | None
    before_end: datetime | None

    def query(self) -> dict[str, str]:
        """Return the parameters that ask the server for it."""
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
        """Tell whether a booking is one of those looked for."""
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
