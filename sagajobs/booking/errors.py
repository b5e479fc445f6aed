"""How booking an appointment can fail for good; the whole tree is drawn in `sagajobs.errors`."""

from __future__ import annotations

from sagajobs.errors import AmbiguousRefusal, EffectGone, PermanentError


class SlotNotFree(PermanentError):
    """The staff member has another appointment at that time."""


class NothingToAdopt(PermanentError):
    """The Cal.com booking that a request or an operator brought along does not exist, or is not what was asked for."""


class AlreadyBooked(PermanentError):
    """Cal.com answered with an earlier booking of the same attendee and time, which is not this saga's."""


class NoLongerPossible(PermanentError):
    """When it was its turn, the change did not fit the appointment any more: another one had come before it."""


class BookingGone(EffectGone):
    """The appointment's booking has been cancelled or declined at Cal.com meanwhile."""


class NotMoved(AmbiguousRefusal):
    """Cal.com answered a move with a booking that did not take the place of ours."""
