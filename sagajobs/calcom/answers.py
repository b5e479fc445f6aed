"""From an answer that is no success to the error that says what it means.

The status decides; the message only helps where one status has several meanings. Whatever is not known to
be harmless counts as the worse case: a change whose answer settles nothing has an unknown outcome, and a
refusal in unknown words may be the echo of an earlier call of our own.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sagajobs.calcom.errors import (
    BadCredentials,
    CalcomOutcomeUnknown,
    CalcomRateLimited,
    CalcomRefused,
    CalcomUnavailable,
    RefusalInDoubt,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sagajobs.calcom.errors import CalcomError
    from sagajobs.calcom.operations import Operation

BAD_REQUEST = 400
UNAUTHORIZED = 401
NOT_FOUND = 404
REQUEST_TIMEOUT = 408
CONFLICT = 409
TOO_MANY_REQUESTS = 429
CLIENT_GAVE_UP = 499  # written by proxies; the call may have reached the server all the same
SERVER_ERRORS = 500

# Refused before anything is done, whoever answers: rights, route, method, size, type.
_REFUSED_FOR_CERTAIN = frozenset({401, 403, 404, 405, 406, 411, 413, 414, 415, 422, 431})

# Cal.com API v2: over the limit, a key is blocked for 60 s.
RATE_LIMIT_BLOCK = 60.0
_LONGEST_RATE_LIMIT = 3600.0
_UNIX_TIME = 1_000_000_000  # a "reset" above this is no number of seconds left, but a point in time

_QUOTED = 200
_ADDRESS = re.compile(r"[^\s\"'<>(),;:=]+(?:@|%40)[^\s\"'<>(),;]+", re.IGNORECASE)
_NUMBER = re.compile(r"\+?\d[\d\s()./-]{5,}\d")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error's body says, in whichever of the API's shapes it came.

    Attributes:
        structured: False for the edge's pages (HTML or nothing), which say nothing about bookings.
        code: "BadRequestException", "CONFLICT", "TRPCError", ..., or None.
        message: the server's words, "" if there are none.
    """

    structured: bool
    code: str | None = None
    message: str = ""


def read_error(content: bytes) -> ErrorBody:
    """Read an error's body; every shape is accepted and nothing raises.

    Cal.com API v2 answers in five: its framework's exceptions and its validators' both as `{"error":
    {"code", "message"}}` (the former with `details`), so does its inner RPC layer; plain `{"statusCode",
    "message"}` from deeper inside; and HTML or nothing from the edge.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return ErrorBody(structured=False)
    if not isinstance(body, dict):
        return ErrorBody(structured=False)
    error = body.get("error")
    if isinstance(error, dict):
        code = error.get("code")
        return ErrorBody(
            structured=True,
            code=code if isinstance(code, str) else None,
            message=_words(error.get("message")),
        )
    if "statusCode" in body:
        return ErrorBody(structured=True, message=_words(body.get("message")))
    return ErrorBody(structured=False)


def _words(message: Any) -> str:
    """Join what may be one string or several."""
    if isinstance(message, list):
        return ", ".join(str(part) for part in message)
    return message if isinstance(message, str) else ""


def failure(
    operation: Operation,
    *,
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    personal: Iterable[str] = (),
) -> CalcomError:
    """Return the error that an answer stands for.

    Args:
        operation: the call that was answered.
        status: HTTP status, not 2xx.
        headers: of the answer, case-insensitive.
        content: body of the answer.
        personal: what the call had sent about a person; the error's message will not quote it.
    """
    body = read_error(content)
    request_id = headers.get("X-Request-Id")
    if status == TOO_MANY_REQUESTS:
        return CalcomRateLimited(
            f"{operation}: over the rate limit",
            retry_after=retry_after(headers),
            status=status,
            code=body.code,
            request_id=request_id,
        )
    kind = _change_kind(operation, status, body) if operation.changes else _read_kind(operation, status, body)
    message = f"{operation}: {status}"
    if status < SERVER_ERRORS and body.message:
        message += f", {scrub(body.message, personal)}"
    return kind(message, status=status, code=body.code, request_id=request_id)


def _read_kind(operation: Operation, status: int, body: ErrorBody) -> type[CalcomError]:
    if status >= SERVER_ERRORS or status in {REQUEST_TIMEOUT, CLIENT_GAVE_UP}:
        return CalcomUnavailable
    return _certain_kind(operation, status, body)


def _change_kind(operation: Operation, status: int, body: ErrorBody) -> type[CalcomError]:
    # The booking is committed before calendars, mails and the read-back, any of which can fail the reply:
    # no 5xx after a change says that nothing was done. The same goes for what no server of Cal.com is known
    # to say.
    if status in _REFUSED_FOR_CERTAIN:
        return _certain_kind(operation, status, body)
    if status == CONFLICT:
        return operation.conflict
    if status == BAD_REQUEST:
        message = body.message.lower()
        hits = (kind for words, kind in operation.refusals.items() if words in message)
        return next(hits, RefusalInDoubt)
    return CalcomOutcomeUnknown


def _certain_kind(operation: Operation, status: int, body: ErrorBody) -> type[CalcomError]:
    # Deeper layers (no code, or the RPC layer's) say 401 for a lack of rights; the key itself is fine then.
    if status == UNAUTHORIZED and not (body.structured and body.code in {None, "TRPCError"}):
        return BadCredentials
    # A 404 about the ROUTE ("Cannot GET /v2/...": wrong base URL, or the version header fell back) and one
    # from the edge say nothing about the thing; taking them for "no such booking" would lose a booking that
    # exists.
    if status == NOT_FOUND and body.structured and not body.message.startswith("Cannot "):
        return operation.not_found
    return CalcomRefused


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait after a 429.

    Cal.com API v2 says so in `X-RateLimit-Reset-<name of the limit>`, in seconds left (in unix time by a
    page of documentation, so both are read). `Retry-After` comes only from the edge in front of it.
    """
    waits = [
        wait
        for name, value in headers.items()
        if name.lower() == "retry-after" or name.lower().startswith("x-ratelimit-reset")
        if (wait := _seconds(value)) is not None
    ]
    return min(max(waits, default=RATE_LIMIT_BLOCK), _LONGEST_RATE_LIMIT)


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    if seconds > _UNIX_TIME:
        seconds -= time.time()
    return seconds if seconds > 0 else None


def scrub(message: str, personal: Iterable[str] = ()) -> str:
    """Shorten a server's message and take out addresses, long numbers and everything in `personal`."""
    for value in sorted(set(personal), key=len, reverse=True):
        message = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "***", message, flags=re.IGNORECASE)
    message = _NUMBER.sub("***", _ADDRESS.sub("***", message))
    return message if len(message) <= _QUOTED else message[: _QUOTED - 1] + "…"
