"""What the simulator answers: successes, and refusals in the shapes that Cal.com API v2 has.

Which shape comes from which layer: `nest` from the framework, `validator` from body schemas and the database, `trpc`
from the web app's procedures, `plain` from the booking code deeper down, `edge` from the proxy in front of it all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=UTF-8"

INTERNAL = "Internal server error"


@dataclass(frozen=True, slots=True)
class Reply:
    """A status with a body, ready to be sent."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def success(data: Any, *, status: int = 200, **more: Any) -> Reply:
    """Return the envelope of a success; `more` goes beside `data`."""
    return Reply(status, _encoded({"status": "success", "data": data, **more}))


def document(data: Any, *, status: int = 200) -> Reply:
    """Return a JSON document as it is."""
    return Reply(status, _encoded(data))


class Refusal(Exception):
    """An answer that is no success; carries how to write it, given the URL that it quotes."""

    def __init__(self, build: Callable[[str], Reply]) -> None:
        super().__init__()
        self.reply = build


def nest(
    status: int,
    message: str,
    *,
    code: str | None = None,
    details: dict[str, Any] | None = None,
) -> Refusal:
    """Refuse as the framework's exceptions do: code, message and details.

    Args:
        status: HTTP status.
        message: the words.
        code: the exception's name, where it does not follow from the status.
        details: instead of the usual ones.
    """
    phrase = HTTPStatus(status).phrase
    error = {
        "code": code or f"{phrase.title().replace(' ', '')}Exception",
        "message": message,
        "details": details or {"message": message, "error": phrase, "statusCode": status},
    }
    return Refusal(lambda url: Reply(status, _encoded(_framed(url, error))))


def validator(status: int, code: str, message: str) -> Refusal:
    """Refuse as body schemas and database errors do: a code in capitals, no details."""
    return Refusal(lambda url: Reply(status, _encoded(_framed(url, {"code": code, "message": message}))))


def trpc(status: int, message: str) -> Refusal:
    """Refuse as the web app's own procedures do, which the API calls to confirm, decline and add guests."""
    return validator(status, "TRPCError", message)


def invalid(*errors: str) -> Refusal:
    """Refuse parameters or a body that the framework's own validation finds wrong."""
    return nest(400, "Bad Request Exception", details={"errors": list(errors)})


def plain(status: int, message: str) -> Refusal:
    """Refuse as the booking code does: status and message, nothing else."""
    body = _encoded({"statusCode": status, "message": message})
    return Refusal(lambda _url: Reply(status, body))


def edge(status: int, title: str) -> Refusal:
    """Refuse as the proxy in front does: a page of HTML."""
    body = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    return Refusal(lambda _url: Reply(status, body.encode(), HTML))


def throttled() -> Refusal:
    """Refuse a call over a limit, as the throttler does before any handler sees it; the headers are the limiter's."""
    return nest(429, "CustomThrottlerGuard - Too many requests. Please try again later.", code="ThrottlerException")


def rate_limited(reset: float) -> Refusal:
    """Refuse a call as if it were over the general limit.

    Args:
        reset: seconds until the limit is lifted.
    """
    headers = {
        "X-RateLimit-Limit-Default": "120",
        "X-RateLimit-Remaining-Default": "0",
        "X-RateLimit-Reset-Default": f"{reset:g}",
    }
    return Refusal(lambda url: replace(throttled().reply(url), headers=headers))


def no_route(method: str) -> Refusal:
    """Refuse what no controller answers; a wrong version header ends here as well."""
    return Refusal(lambda url: nest(404, f"Cannot {method} {url}").reply(url))


def _framed(url: str, error: dict[str, Any]) -> dict[str, Any]:
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"status": "error", "timestamp": moment, "path": url, "error": error}


def _encoded(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
