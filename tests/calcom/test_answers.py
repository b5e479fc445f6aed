"""Every kind of refusal in every shape, and what it means for each kind of call."""

import itertools
import json
import time

import pytest
from requests.structures import CaseInsensitiveDict

from sagajobs.calcom import errors
from sagajobs.calcom.answers import failure, read_error, retry_after, scrub
from sagajobs.calcom.operations import (
    ADD_GUESTS,
    CANCEL_BOOKING,
    CONFIRM_BOOKING,
    CREATE_BOOKING,
    DECLINE_BOOKING,
    GET_BOOKING,
    GET_EVENT_TYPE,
    LIST_BOOKINGS,
    ME,
    RESCHEDULE_BOOKING,
    SET_LOCATION,
)
from sagajobs.errors import AmbiguousError, AmbiguousRefusal, Deferred, PermanentError, TransientError

TAKEN = "User either already has booking at this time or is not available"
TEAM_TAKEN = "One of the hosts either already has booking at this time or is not available"
HTML = b"<!DOCTYPE html><html><body>Bad gateway</body></html>"


def shape_a(message, code="BadRequestException", status=400):
    error = {"code": code, "message": message, "details": {"message": message, "statusCode": status}}
    return json.dumps({"status": "error", "timestamp": "t", "path": "/v2/x", "error": error}).encode()


def shape_b(message, code="BAD_REQUEST"):
    return json.dumps({"status": "error", "error": {"code": code, "message": message}}).encode()


def shape_c(message):
    return shape_b(message, "TRPCError")


def shape_d(status, message):
    return json.dumps({"statusCode": status, "message": message}).encode()


def meaning(operation, status, content=b"", headers=None, **more):
    return failure(operation, status=status, headers=CaseInsensitiveDict(headers or {}), content=content, **more)


@pytest.mark.parametrize(
    ("content", "structured", "code", "message"),
    [
        (shape_a("m"), True, "BadRequestException", "m"),
        (shape_b("m"), True, "BAD_REQUEST", "m"),
        (shape_c("m"), True, "TRPCError", "m"),
        (shape_d(500, "m"), True, None, "m"),
        (shape_d(500, ["m", "n"]), True, None, "m, n"),
        (HTML, False, None, ""),
        (b"", False, None, ""),
        (b"\xff\xfe\x00", False, None, ""),
        (b"[]", False, None, ""),
        (b"[" * 100_000, False, None, ""),
        (b"null", False, None, ""),
        (b"{}", False, None, ""),
        (b'{"error": "x"}', False, None, ""),
        (b'{"error": {"code": 7, "message": {}}}', True, None, ""),
    ],
)
def test_every_shape_is_read(content, structured, code, message):
    body = read_error(content)

    assert (body.structured, body.code, body.message) == (structured, code, message)


CREATE_CASES = [
    (400, shape_a(TAKEN), errors.SlotTaken),
    (400, shape_a(TEAM_TAKEN), errors.SlotTaken),
    (400, shape_d(400, "An error occurred while querying the database."), errors.SlotTaken),
    (409, shape_d(409, "booking_conflict_error"), errors.SlotTaken),
    (409, shape_d(409, "already_signed_up_for_this_booking_error"), errors.SlotTaken),
    (409, shape_b("x", "CONFLICT"), errors.SlotTaken),
    (409, HTML, errors.SlotTaken),
    (400, shape_a("foo property is wrong,property foo should not exist"), errors.CalcomRefused),
    (400, shape_a("Attempting to book a meeting in the past."), errors.CalcomRefused),
    (400, shape_b("responses - {title}error_required_field"), errors.CalcomRefused),
    (400, shape_a('The event type can\'t be booked at the "start" time provided.'), errors.CalcomRefused),
    (400, shape_a("The desired time is gone"), errors.RefusalInDoubt),
    (400, shape_b("x"), errors.RefusalInDoubt),
    (400, HTML, errors.RefusalInDoubt),
    (400, shape_d(400, "Missing payment credentials"), errors.CalcomOutcomeUnknown),
    (401, shape_a("Invalid API Key", "UnauthorizedException", 401), errors.BadCredentials),
    (401, HTML, errors.BadCredentials),
    (401, shape_c("no right"), errors.CalcomRefused),
    (403, shape_d(403, "Cannot use this email to create the booking."), errors.CalcomRefused),
    (404, shape_a("Event type with id 9 not found", "NotFoundException", 404), errors.EventTypeNotFound),
    (404, shape_a("Cannot POST /v2/bookings", "NotFoundException", 404), errors.CalcomRefused),
    (404, HTML, errors.CalcomRefused),
    (405, b"", errors.CalcomRefused),
    (413, HTML, errors.CalcomRefused),
    (415, b"", errors.CalcomRefused),
    (422, shape_a("x", "UnprocessableEntityException", 422), errors.CalcomRefused),
    (408, b"", errors.CalcomOutcomeUnknown),
    (499, b"", errors.CalcomOutcomeUnknown),
    (402, b"", errors.CalcomOutcomeUnknown),
    (418, b"", errors.CalcomOutcomeUnknown),
    (301, b"", errors.CalcomOutcomeUnknown),
    (303, b"", errors.CalcomOutcomeUnknown),
    (429, shape_a("Too many", "ThrottlerException", 429), errors.CalcomRateLimited),
    (429, HTML, errors.CalcomRateLimited),
    *[(status, HTML, errors.CalcomOutcomeUnknown) for status in (502, 503, 504, *range(520, 527), 599)],
    (500, shape_d(500, "Internal server error"), errors.CalcomOutcomeUnknown),
    (500, shape_b("x", "INTERNAL_SERVER_ERROR"), errors.CalcomOutcomeUnknown),
    (501, b"", errors.CalcomOutcomeUnknown),
]
CANCEL_CASES = [
    (400, shape_a("Can't cancel booking with uid=X because it has been cancelled already. Please"),
     errors.AlreadyCancelled),
    (400, shape_d(400, "This booking has already been cancelled."), errors.AlreadyCancelled),
    (400, shape_d(400, "Cannot cancel a booking that has already ended"), errors.BookingEnded),
    (400, shape_d(400, "Cancellation reason is required"), errors.CalcomRefused),
    (400, shape_d(400, "This event type does not allow cancellations"), errors.CalcomRefused),
    (400, shape_a("Invalid seatUid: x"), errors.CalcomRefused),
    (400, shape_d(400, "Something new"), errors.RefusalInDoubt),
    (409, b"", errors.RefusalInDoubt),
    (401, shape_d(401, "User not a host of this event"), errors.CalcomRefused),
    (404, shape_a("Booking with uid=X not found", "NotFoundException", 404), errors.BookingNotFound),
    (404, shape_b("x", "NOT_FOUND"), errors.BookingNotFound),
    (404, shape_a("Cannot POST /v2/bookings/X/cancel", "NotFoundException", 404), errors.CalcomRefused),
    (404, HTML, errors.CalcomRefused),
    (500, shape_b("There was an error, please try again later.", "INTERNAL_SERVER_ERROR"),
     errors.CalcomOutcomeUnknown),
    (503, HTML, errors.CalcomOutcomeUnknown),
    (429, b"", errors.CalcomRateLimited),
]  # fmt: skip
RESCHEDULE_CASES = [
    (400, shape_a(TAKEN), errors.SlotTaken),
    (400, shape_a(TEAM_TAKEN), errors.SlotTaken),
    (400, shape_d(400, "An error occurred while querying the database."), errors.SlotTaken),
    (409, shape_d(409, "booking_conflict_error"), errors.SlotTaken),
    (400, shape_a("Can't reschedule booking with uid=X because it has been cancelled. Please provide uid of a"),
     errors.AlreadyCancelled),
    (400, shape_a("Can't reschedule booking with uid=X because it has been cancelled and rescheduled already to "
                  "booking with uid=Y. You probably want to reschedule Y instead"), errors.AlreadyRescheduled),
    (400, shape_a("Attempting to book a meeting in the past."), errors.CalcomRefused),
    (400, shape_a('The event type can\'t be booked at the "start" time provided.'), errors.CalcomRefused),
    (400, shape_b("responses - {title}error_required_field"), errors.CalcomRefused),
    (400, shape_a("foo property is wrong,property foo should not exist"), errors.CalcomRefused),
    (400, shape_d(400, "Something new"), errors.RefusalInDoubt),
    (403, shape_d(403, "Rescheduling is not allowed within the minimum notice"), errors.CalcomRefused),
    (404, shape_a("Booking with uid=X was not found in the database", "NotFoundException", 404),
     errors.BookingNotFound),
    (404, shape_d(404, "Could not find original booking"), errors.BookingNotFound),
    (404, shape_a("Cannot POST /v2/bookings/X/reschedule", "NotFoundException", 404), errors.CalcomRefused),
    (500, shape_d(500, "Internal server error"), errors.CalcomOutcomeUnknown),
    (524, HTML, errors.CalcomOutcomeUnknown),
    (429, b"", errors.CalcomRateLimited),
]  # fmt: skip
DECISION_CASES = [
    (400, shape_c("Booking already confirmed"), errors.AlreadyConfirmed),
    (400, shape_c("Something new"), errors.RefusalInDoubt),
    (401, shape_c("User is not allowed to confirm"), errors.CalcomRefused),
    (401, shape_a("x", "UnauthorizedException", 401), errors.BadCredentials),
    (404, shape_a("Booking with uid=X not found", "NotFoundException", 404), errors.BookingNotFound),
    (500, shape_b("x", "INTERNAL_SERVER_ERROR"), errors.CalcomOutcomeUnknown),
    (429, b"", errors.CalcomRateLimited),
]
DETAIL_CASES = [
    (400, shape_a("location property is wrong"), errors.CalcomRefused),
    (400, shape_a("Something new"), errors.RefusalInDoubt),
    (403, shape_a("x", "ForbiddenException", 403), errors.CalcomRefused),
    (404, shape_a("Booking with uid=X not found", "NotFoundException", 404), errors.BookingNotFound),
    (404, shape_a("Cannot PATCH /v2/bookings/X/location", "NotFoundException", 404), errors.CalcomRefused),
    (503, HTML, errors.CalcomOutcomeUnknown),
    (429, b"", errors.CalcomRateLimited),
]
GET_CASES = [
    (400, shape_a("Bad Request Exception"), errors.CalcomRefused),
    (401, shape_a("x", "UnauthorizedException", 401), errors.BadCredentials),
    (403, shape_a("x", "ForbiddenException", 403), errors.CalcomRefused),
    (404, shape_a("Booking with uid=X was not found in the database", "NotFoundException", 404),
     errors.BookingNotFound),
    (404, shape_a("Cannot GET /v2/bookings/X", "NotFoundException", 404), errors.CalcomRefused),
    (404, HTML, errors.CalcomRefused),
    (302, b"", errors.CalcomRefused),
    (408, b"", errors.CalcomUnavailable),
    (499, b"", errors.CalcomUnavailable),
    (500, shape_d(500, "Internal server error"), errors.CalcomUnavailable),
    (503, HTML, errors.CalcomUnavailable),
    (524, HTML, errors.CalcomUnavailable),
    (429, b"", errors.CalcomRateLimited),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "status", "content", "kind"),
    [
        *[(CREATE_BOOKING, *case) for case in CREATE_CASES],
        *[(CANCEL_BOOKING, *case) for case in CANCEL_CASES],
        *[(RESCHEDULE_BOOKING, *case) for case in RESCHEDULE_CASES],
        *[(operation, *case) for operation in (CONFIRM_BOOKING, DECLINE_BOOKING) for case in DECISION_CASES],
        *[(operation, *case) for operation in (SET_LOCATION, ADD_GUESTS) for case in DETAIL_CASES],
        *[(GET_BOOKING, *case) for case in GET_CASES],
    ],
)
def test_each_answer_has_one_meaning(operation, status, content, kind):
    error = meaning(operation, status, content, {"x-request-id": "r-1"})

    assert type(error) is kind
    assert error.status == status
    assert error.request_id == "r-1"
    assert str(operation) in str(error)


@pytest.mark.parametrize(
    "operation",
    [CREATE_BOOKING, CANCEL_BOOKING, RESCHEDULE_BOOKING, CONFIRM_BOOKING, DECLINE_BOOKING, SET_LOCATION, ADD_GUESTS],
)
def test_a_change_is_never_safe_to_repeat_blindly(operation):
    every = itertools.product(range(300, 600), [b"", HTML, shape_d(0, "words never seen before")])
    for status, content in ((status, content) for status, content in every if status != 429):
        error = meaning(operation, status, content)
        assert not isinstance(error, TransientError), status
        if status >= 500 or status < 400:
            assert isinstance(error, AmbiguousError), status
            assert not isinstance(error, AmbiguousRefusal), status


@pytest.mark.parametrize("operation", [GET_BOOKING, LIST_BOOKINGS, GET_EVENT_TYPE, ME])
def test_a_read_is_never_ambiguous(operation):
    for status in range(300, 600):
        assert isinstance(meaning(operation, status, b""), TransientError | PermanentError), status


def test_what_a_404_is_about_depends_on_the_call():
    content = shape_a("x not found", "NotFoundException", 404)

    assert type(meaning(GET_EVENT_TYPE, 404, content)) is errors.EventTypeNotFound
    assert type(meaning(LIST_BOOKINGS, 404, content)) is errors.CalcomRefused
    assert type(meaning(ME, 404, content)) is errors.CalcomRefused


def test_the_four_kinds():
    assert issubclass(errors.CalcomUnavailable, TransientError)
    assert issubclass(errors.CalcomDeferred, Deferred)
    assert issubclass(errors.CalcomRefused, PermanentError)
    assert issubclass(errors.CalcomOutcomeUnknown, AmbiguousError)
    assert issubclass(errors.SlotTaken, AmbiguousRefusal)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 60),
        ({"X-RateLimit-Reset-Default": "17"}, 17),
        ({"x-ratelimit-reset-Booking_location_update": "33"}, 33),
        ({"X-RateLimit-Reset-Default": "5", "X-RateLimit-Reset-Other": "40"}, 40),
        ({"Retry-After": "12"}, 12),
        ({"X-RateLimit-Reset-Default": "soon"}, 60),
        ({"X-RateLimit-Reset-Default": "0"}, 60),
        ({"X-RateLimit-Reset-Default": "-3"}, 60),
        ({"X-RateLimit-Reset-Default": "nan"}, 60),
        ({"X-RateLimit-Reset-Default": "1e6"}, 3600),
        ({"X-RateLimit-Remaining-Default": "7"}, 60),
    ],
)
def test_how_long_to_wait_after_a_429(headers, seconds):
    assert retry_after(CaseInsensitiveDict(headers)) == seconds
    assert meaning(CREATE_BOOKING, 429, b"", headers).retry_after == seconds


def test_a_reset_in_unix_time_is_understood():
    headers = CaseInsensitiveDict({"X-RateLimit-Reset-Default": str(int(time.time()) + 30)})

    assert 25 < retry_after(headers) <= 30


def test_a_refusal_quotes_the_server_without_the_person():
    content = shape_a("Zebulon Quagmire <zebulon+x@quagmire.example>, +49 151 1234 5678: attendee.name is wrong")

    error = meaning(CREATE_BOOKING, 400, content, personal=("Zebulon Quagmire", "Quagmire", "Zebulon"))

    assert "attendee.name is wrong" in str(error)
    for secret in ("Zebulon", "Quagmire", "quagmire", "1234"):
        assert secret not in str(error)


def test_the_words_of_a_broken_server_are_not_quoted():
    error = meaning(CREATE_BOOKING, 500, shape_d(500, "insert of Zebulon failed"))

    assert "Zebulon" not in str(error)


@pytest.mark.parametrize(
    "message",
    [
        "zebulon@example.com",
        "<Zebulon@Example.com>",
        "a%40b.example",
        "mailto:zebulon@example.com",
        "+4915112345678",
    ],
)
def test_addresses_and_numbers_are_taken_out(message):
    assert scrub(f"bad value {message} given").replace("<", "").replace(">", "") in {
        "bad value *** given",
        "bad value mailto:*** given",
    }


def test_long_words_are_cut():
    assert len(scrub("x" * 5000)) == 200
