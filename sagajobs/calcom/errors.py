"""What a call to Cal.com, or a webhook from it, can end in, other than success.

Every `CalcomError` is also one of the four kinds of `sagajobs.errors`, so that whoever runs a step can tell what
to do from the type alone. Which answer becomes which class is decided in `sagajobs.calcom.answers`; the whole
tree is drawn in `sagajobs.errors`.
"""

from __future__ import annotations

from sagajobs.errors import (
    AmbiguousError,
    AmbiguousRefusal,
    Deferred,
    PermanentError,
    SagajobsError,
    TransientError,
)


class CalcomError(SagajobsError):
    """Base of every failure of a call to Cal.com; never raised by itself.

    The message names the call by its method and path template. It holds no API key, and nothing personal: of
    the server's own words only those of a refusal are quoted, without addresses, numbers and what the call
    had sent about a person.

    Attributes:
        status: the HTTP status, or None where there was no answer.
        code: the error code in the answer's body ("BadRequestException", "CONFLICT"), or None.
        request_id: Cal.com's own id of the call (`X-Request-Id`), to quote to its support, or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id


class CalcomUnavailable(CalcomError, TransientError):
    """Nothing was done: Cal.com could not be reached, or it was a read that got no usable answer."""


class CalcomDeferred(CalcomError, Deferred):
    """Nothing was done, as this was not the time for a call; never raised by itself.

    Attributes:
        retry_after: seconds until it may be the time.
    """

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, request_id=request_id)
        self.retry_after = retry_after


class CalcomRateLimited(CalcomDeferred):
    """Cal.com says that the quota of the API key is used up (a 429 comes before any handler)."""


class CalcomQuotaSpent(CalcomDeferred):
    """Nothing was sent: what calls of this priority may use of the quota is used up (`sagajobs.calcom.quota`)."""


class CalcomCircuitOpen(CalcomDeferred):
    """Nothing was sent: Cal.com has been failing, and is left alone for a while (`sagajobs.calcom.circuit`)."""


class CalcomRefused(CalcomError, PermanentError):
    """Nothing was done: the call was refused, and would be again."""


class InvalidRequest(CalcomRefused):
    """Nothing was sent: Cal.com is known to refuse this (metadata limits, an attendee out of reach, ...)."""


class BadCredentials(CalcomRefused):
    """The API key is not accepted (401)."""


class BookingNotFound(CalcomRefused):
    """No booking has that uid (404).

    Cal.com reads from a replica that may lag, so right after a create this can be wrong. Bookings are never
    deleted.
    """


class EventTypeNotFound(CalcomRefused):
    """No event type has that id, or it is not one this API key may see (404)."""


class AlreadyCancelled(CalcomRefused):
    """A cancel or a move was refused because the booking is cancelled already.

    To a cancel, the OLD uid of a rescheduled booking gives the same answer while the booking lives on under its
    new uid: read `Booking.rescheduled_to_uid` before taking this for success.
    """


class AlreadyRescheduled(CalcomRefused):
    """A move was refused because the booking was moved before and lives on under another uid.

    The earlier move may have been our own, whose answer was lost: read `Booking.rescheduled_to_uid`, and where
    that booking is, before taking this for a failure.
    """


class AlreadyConfirmed(CalcomRefused):
    """A confirm or a decline was refused because the booking is confirmed already, perhaps by our own earlier call."""


class BookingEnded(CalcomRefused):
    """A cancel was refused because the booking is over."""


class CalcomOutcomeUnknown(CalcomError, AmbiguousError):
    """A change was sent and no answer settles whether it was made (time-out, 5xx, dropped line, garbage)."""


class RefusalInDoubt(CalcomError, AmbiguousRefusal):
    """A change was refused in words that do not rule out that an earlier call of ours is the reason."""


class SlotTaken(RefusalInDoubt):
    """No host is free at that time, or a racing call was faster; the other one may have been our own."""


class WebhookRefused(SagajobsError):
    """Base of what is wrong with a webhook; the message quotes nothing of it but the names of its fields."""


class WebhookTooLarge(WebhookRefused):
    """It is larger than any that Cal.com sends."""


class WebhookUnsigned(WebhookRefused):
    """Its signature is missing or wrong: it may be anybody's."""


class WebhookMalformed(WebhookRefused):
    """It was signed with our secret and cannot be read."""
