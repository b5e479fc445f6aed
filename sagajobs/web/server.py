"""A server of its own for the webhook receiver, for those who have none that it could be mounted in."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, stream_request_body

from sagajobs.calcom.webhooks import MAX_BODY
from sagajobs.web.endpoints import headers_of
from sagajobs.web.webhooks import TOO_LARGE, WRONG_METHOD, WebhookAnswer, handle_webhook, secret

AT_ONCE = 8
"""Webhooks worked on at the same time; more wait for a thread, as each takes a connection to the database."""

BODY_WITHIN = 10.0
"""Seconds in which a body must have come, and for which an idle connection is kept."""


@stream_request_body
class _Receiver(RequestHandler):
    """Takes one webhook; what is too large is refused without being kept."""

    def initialize(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._body = bytearray()

    def prepare(self) -> None:
        if self.request.method != "POST":
            self._reply(WRONG_METHOD)

    def data_received(self, chunk: bytes) -> None:
        # Counted as it comes: a declared length may be missing.
        if len(self._body) <= MAX_BODY:
            self._body += chunk

    async def post(self) -> None:
        if len(self._body) > MAX_BODY:
            self._reply(TOO_LARGE)
            return
        headers = dict(self.request.headers.get_all())
        loop = asyncio.get_running_loop()
        self._reply(await loop.run_in_executor(self._threads, handle_webhook, bytes(self._body), headers))

    def _reply(self, answer: WebhookAnswer) -> None:
        self.set_status(answer.status)
        for name, value in headers_of(answer):
            self.set_header(name, value)
        self.finish(answer.body)


def serve(host: str, port: int, *, ready: Callable[[str], None] | None = None) -> None:
    """Receive webhooks in this thread, which must be the main one, until SIGTERM or SIGINT.

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        ready: called with the URL as soon as the socket listens.

    Raises:
        ConfigurationError: no secret is set.
        OSError: the address cannot be had.
    """
    secret()
    asyncio.run(_serve(host, port, ready))


async def _serve(host: str, port: int, ready: Callable[[str], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sockets = bind_sockets(port, host)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as threads:
        application = Application([(r".*", _Receiver, {"threads": threads})], log_function=_no_log)
        server = HTTPServer(
            application,
            max_body_size=1 << 40,  # `_Receiver` keeps none that is too large; Tornado would cut the line instead
            body_timeout=BODY_WITHIN,
            idle_connection_timeout=BODY_WITHIN,
            xheaders=False,
        )
        server.add_sockets(sockets)
        if ready is not None:
            shown = f"[{host}]" if ":" in host else host
            ready(f"http://{shown}:{sockets[0].getsockname()[1]}/")
        await stop.wait()
        server.stop()
        await server.close_all_connections()


def _no_log(_handler: Any) -> None:
    """Log no requests: what there is to say of them `handle_webhook` says."""
