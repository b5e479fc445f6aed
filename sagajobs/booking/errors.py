"""How booking an appointment can fail for good; the whole tree is drawn in `sagajobs.errors`."""

from __future__ import annotations

from sagajobs.errors import PermanentError


class SlotNotFree(PermanentError):
    """The staff member has another appointment at that time."""


class NothingToAdopt(PermanentError):
    """The Cal.com booking that the request brought along does not exist."""


class AlreadyBooked(PermanentError):
    """Cal.com answered with an earlier booking of the same attendee and time, which is not this saga's."""
