"""The webhook receiver as a WSGI and as an ASGI application, to be mounted wherever the web application likes.

Every path is the webhook's: where they are mounted says which one it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sagajobs.calcom.webhooks import MAX_BODY
from sagajobs.web.webhooks import (
    CONTENT_TYPE,
    TOO_LARGE,
    WRONG_LENGTH,
    WRONG_METHOD,
    WebhookAnswer,
    handle_webhook,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Message = MutableMapping[str, Any]


def headers_of(answer: WebhookAnswer) -> list[tuple[str, str]]:
    """Return the headers that go with an answer."""
    headers = [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(answer.body)))]
    return [*headers, ("Allow", "POST")] if answer is WRONG_METHOD else headers


# --- WSGI ---


def webhook_wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Receive webhooks, as a WSGI application."""
    answer = _answer_wsgi(environ)
    status = HTTPStatus(answer.status)
    start_response(f"{status.value} {status.phrase}", headers_of(answer))
    return [answer.body]


def _answer_wsgi(environ: WSGIEnvironment) -> WebhookAnswer:
    if environ["REQUEST_METHOD"] != "POST":
        return WRONG_METHOD
    # A chunked body declares no length. Only a server that says so ends it by itself; elsewhere reading waits for ever.
    endless = MAX_BODY + 1 if environ.get("wsgi.input_terminated") else 0
    declared = environ.get("CONTENT_LENGTH") or str(endless)
    if not (declared.isascii() and declared.isdigit()):
        return WRONG_LENGTH  # a negative one would have us read without end
    size = int(declared[:20])  # longer ones are too large by their first digits
    if size > MAX_BODY and size != endless:
        return TOO_LARGE
    headers = {
        name.removeprefix("HTTP_").replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    return handle_webhook(environ["wsgi.input"].read(size), headers)


# --- ASGI ---


async def webhook_asgi(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Receive webhooks, as an ASGI application."""
    if scope["type"] != "http":
        raise NotImplementedError(f"webhooks come by HTTP, not as {scope['type']}")
    answer = await _answer_asgi(scope, receive)
    if answer is None:
        return
    headers = [(name.lower().encode(), value.encode()) for name, value in headers_of(answer)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _answer_asgi(scope: Message, receive: Callable[[], Awaitable[Message]]) -> WebhookAnswer | None:
    """Return the answer, None if the caller has gone before he had said all."""
    if scope["method"] != "POST":
        return WRONG_METHOD
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return TOO_LARGE
        more = message.get("more_body", False)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    # The database is waited for, and the loop has others to serve.
    return await asyncio.to_thread(handle_webhook, bytes(body), headers)
