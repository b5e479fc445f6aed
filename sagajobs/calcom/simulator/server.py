"""Running the simulator."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from sagajobs.calcom.simulator.control import control_routes
from sagajobs.calcom.simulator.handlers import ApiHandler, UnknownHandler
from sagajobs.calcom.simulator.hostside import host_routes
from sagajobs.calcom.simulator.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

DEFAULT_API_KEY = "cal_test_simulator"
LOOPBACK = "127.0.0.1"


def application(state: State) -> Application:
    """Return the Tornado application around `state`."""
    context = {"state": state}
    return Application(
        [
            *control_routes(state),
            *host_routes(state),
            (r"(?:/api)?/v2/.*", ApiHandler, context),
            (r".*", UnknownHandler, context),
        ],
        log_function=_no_log,
    )


def serve(
    host: str = LOOPBACK,
    port: int = 0,
    *,
    api_keys: Collection[str] = (DEFAULT_API_KEY,),
    ready: Callable[[str], None] | None = None,
) -> None:
    """Run a simulator in this thread, which must be the main one, until SIGTERM or SIGINT.

    Args:
        host: address to listen on. Whoever reaches it has control: keep to loopback.
        port: port to listen on; 0 takes a free one.
        api_keys: the tokens that are accepted.
        ready: called with the base URL as soon as the socket listens.

    Raises:
        OSError: if the address cannot be had.
    """
    asyncio.run(_serve(host, port, State(api_keys), ready))


async def _serve(host: str, port: int, state: State, ready: Callable[[str], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sockets = bind_sockets(port, host)
    server = HTTPServer(application(state))
    server.add_sockets(sockets)
    if ready is not None:
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{sockets[0].getsockname()[1]}")
    await stop.wait()
    server.stop()
    # Silent receivers of webhooks, and silent calls, would hold their connections for minutes otherwise.
    state.deliveries.close()
    await server.close_all_connections()


def _no_log(_handler: Any) -> None:
    """Log no requests: their URLs name attendees, and `GET /_simulator/requests` shows them."""
