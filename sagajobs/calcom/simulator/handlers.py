"""HTTP on one side, routes and faults on the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tornado.web import HTTPError, RequestHandler

from sagajobs.calcom.simulator import replies
from sagajobs.calcom.simulator.acts import Call
from sagajobs.calcom.simulator.routes import Route, find_route, route_of
from sagajobs.calcom.simulator.state import RequestRecord

if TYPE_CHECKING:
    from sagajobs.calcom.simulator.faults import FaultRule
    from sagajobs.calcom.simulator.replies import Refusal, Reply
    from sagajobs.calcom.simulator.state import State

OK = 200
CREATED = 201
UNAUTHORIZED = 401
INTERNAL_SERVER_ERROR = 500

_MAKING = frozenset({"create", "reschedule", "add_attendee"})  # answered with 201

_REFUSALS = {
    "http_500": replies.plain(500, replies.INTERNAL),
    "http_503": replies.edge(503, "503 Service Temporarily Unavailable"),
    "http_524": replies.edge(524, "524: A timeout occurred"),
}
_GARBAGE = b'{"status":"success","data":{"uid":'


class SimulatorHandler(RequestHandler):
    """What every reply of the simulator has: the server's own request id, and JSON for errors."""

    state: State

    def initialize(self, state: State) -> None:
        """Take what the application hands to each handler."""
        self.state = state

    def set_default_headers(self) -> None:
        """Give the reply its id; one that the client sent is ignored."""
        if not hasattr(self, "request_id"):
            self.request_id = str(uuid.uuid4())
        self.set_header("X-Request-Id", self.request_id)
        self.clear_header("Server")

    def send(self, reply: Reply) -> None:
        """Write a reply."""
        self.set_status(reply.status)
        self.set_header("Content-Type", reply.content_type)
        for name, value in reply.headers.items():
            self.set_header(name, value)
        self.finish(reply.body)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer what Tornado itself refuses: a method without a handler is a route that does not exist."""
        refused = isinstance(kwargs.get("exc_info", (None, None))[1], HTTPError)
        refusal = (
            replies.no_route(self.request.method or "")
            if refused and status_code < INTERNAL_SERVER_ERROR
            else replies.plain(INTERNAL_SERVER_ERROR, replies.INTERNAL)
        )
        self.send(refusal.reply(self.request.uri or ""))


class UnknownHandler(SimulatorHandler):
    """Answers every path that is nothing here."""

    def prepare(self) -> None:
        """Refuse, for every method alike."""
        self.send(replies.no_route(self.request.method or "").reply(self.request.uri or ""))


class ApiHandler(SimulatorHandler):
    """Answers the API: limit, fault, route, rights, act, fault."""

    async def prepare(self) -> None:
        """Serve the request here, for every method alike."""
        self._gone = asyncio.Event()
        self._arrived = time.time()
        self._resets = self.state.resets
        self._method = self.request.method or ""
        # The service rewrites the older prefix away before it looks at anything.
        self._path = self.request.path.removeprefix("/api")
        route = route_of(self._method, self._path)
        operation = route.operation if route else "other"
        refusal = self._over_limit(route)
        fault = None if refusal else self.state.faults.pick(operation)
        reply = refusal.reply(self._url()) if refusal else await self._served(fault, operation)
        if not self._outlived():
            self._record(operation, fault, reply)
        if reply is None:
            self.detach().close()
        else:
            self.send(reply)
        self.state.deliveries.release()

    async def _served(self, fault: FaultRule | None, operation: str) -> Reply | None:
        """Do the work, or not, as the fault wants it, and return the answer; None is no answer at all."""
        if fault is None:
            return await self._answer()
        if fault.when == "before":
            reply = await self._spoilt(fault, operation)
            if self._outlived():
                return None
            # Whether the client still waits or not: a server that is late does its work all the same.
            return await self._answer() if fault.kind == "slow" else reply
        # Committed here, whatever becomes of the answer; and what has waited for an answer need wait no longer.
        answer = await self._answer()
        self.state.deliveries.release()
        reply = await self._spoilt(fault, operation)
        return answer if fault.kind == "slow" else reply

    def _outlived(self) -> bool:
        """Tell whether the simulator was reset meanwhile: what comes after that must not find this call's work."""
        return self._resets != self.state.resets

    def on_connection_close(self) -> None:
        """Note that the client gave up, which ends a silent call."""
        self._gone.set()

    async def _spoilt(self, fault: FaultRule, operation: str) -> Reply | None:
        """Do what the fault says, and return the answer that it leaves; None is no answer at all."""
        seconds = fault.seconds or 0
        if fault.kind == "slow":
            await asyncio.sleep(seconds)
            return None
        if fault.kind == "timeout":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), seconds)
            return None
        if fault.kind == "drop":
            return None
        if fault.kind == "malformed":
            return replies.Reply(CREATED if operation in _MAKING else OK, _GARBAGE)
        if fault.kind == "rate_limit":
            return replies.rate_limited(seconds).reply(self._url())
        return _REFUSALS[fault.kind].reply(self._url())

    def _over_limit(self, route: Route | None) -> Refusal | None:
        """Count the call, put the figures on the reply, and return the refusal if it is one too many.

        A wrong token is nobody's: it is refused later.
        """
        token = self._token()
        if not self.state.switches.rate_limit_per_minute or (token and token not in self.state.api_keys):
            return None
        caller = token or f"address {self.request.remote_ip}"
        verdict = self.state.limiter.count(caller, route.limit if route else None, self.state.switches)
        for name, value in verdict.headers.items():
            self.set_header(name, value)
        return verdict.refusal

    async def _answer(self) -> Reply:
        try:
            version = self.request.headers.get("cal-api-version")
            route, refs = find_route(self.state, self._method, self._path, version)
            call = Call(
                id=self.request_id,
                authenticated=self._authenticated(needed=route.needs_auth),
                refs=tuple(map(unquote, refs)),
                query={
                    name: values[-1].decode(errors="replace") for name, values in self.request.query_arguments.items()
                },
                body=self.request.body,
            )
            return await route.act(self.state, call)
        except replies.Refusal as refusal:
            return refusal.reply(self._url())

    def _authenticated(self, *, needed: bool) -> bool:
        """Tell whether an accepted token came along; a wrong one is refused even where none is needed."""
        token = self._token()
        if not token:
            if needed:
                raise replies.nest(UNAUTHORIZED, "Unauthorized")
            return False
        if token not in self.state.api_keys:
            raise replies.nest(UNAUTHORIZED, "CustomThrottlerGuard - Invalid API Key")
        return True

    def _token(self) -> str:
        """Return the token that came along, or ""."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else ""

    def _url(self) -> str:
        return (self.request.uri or "").removeprefix("/api")

    def _record(self, operation: str, fault: FaultRule | None, reply: Reply | None) -> None:
        self.state.record(
            RequestRecord(
                at=self._arrived,
                request_id=self.request_id,
                operation=operation,
                method=self._method,
                path=self._path,
                version=self.request.headers.get("cal-api-version"),
                fault=f"{fault.kind} {fault.when}" if fault else None,
                status=reply.status if reply else None,
            )
        )
