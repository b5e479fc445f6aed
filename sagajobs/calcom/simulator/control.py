"""The endpoints beside the API that only a simulator has; the package's docstring describes them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sagajobs.calcom.simulator import output
from sagajobs.calcom.simulator.faults import FaultRule
from sagajobs.calcom.simulator.handlers import SimulatorHandler
from sagajobs.calcom.simulator.ledger import Entry, Ledger
from sagajobs.calcom.simulator.replies import Refusal, document
from sagajobs.calcom.simulator.switches import Switches
from sagajobs.calcom.simulator.world import World

if TYPE_CHECKING:
    from sagajobs.calcom.simulator.state import State

_Body = TypeVar("_Body", bound=BaseModel)

_CREATED = 201
_BAD_REQUEST = 400


class ResetBody(BaseModel):
    """What `POST /_simulator/reset` may carry."""

    model_config = ConfigDict(extra="forbid")

    world: World | None = None
    switches: Switches | None = None


class Kept(BaseModel):
    """What `GET /_simulator/bookings` shows, and `PUT` takes."""

    model_config = ConfigDict(extra="forbid")

    bookings: list[Entry]


class ControlHandler(SimulatorHandler):
    """Reads a body strictly, and says in a 400 what is wrong with it."""

    def body(self, kind: type[_Body], *, default: dict[str, Any] | None = None) -> _Body | None:
        """Return the body, or None after having answered with a 400.

        Args:
            kind: what it must be.
            default: fields that the body may leave out, or None if there must be a body.
        """
        try:
            given = json.loads(self.request.body or (b"{}" if default is not None else b""))
        except ValueError:
            self._refuse(["the body is not valid JSON"])
            return None
        if not isinstance(given, dict):
            self._refuse(["the body must be an object"])
            return None
        try:
            return kind.model_validate({**(default or {}), **given})
        except ValidationError as error:
            self._refuse([_described(problem) for problem in error.errors()])
        return None

    def _refuse(self, problems: list[str]) -> None:
        self.send(document({"error": "bad control request", "problems": problems}, status=_BAD_REQUEST))


def _described(problem: Any) -> str:
    return ": ".join(part for part in (".".join(str(one) for one in problem["loc"]), problem["msg"]) if part)


class LedgerHandler(ControlHandler):
    """GET: all bookings, as they are on the primary, each with its history."""

    def get(self) -> None:
        """Show them in the order of their creation."""
        ledger = self.state.ledger
        rows = [
            output.booking(row, self.state.world)
            | {
                "history": [
                    {"what": event.what, "at": output.moment(event.at), "requestId": event.request_id}
                    for event in ledger.history(row.uid)
                ]
            }
            for row in ledger.rows()
        ]
        self.send(document({"bookings": rows}))


class BookingsHandler(ControlHandler):
    """GET and PUT: all bookings, in a form that can be put back."""

    def get(self) -> None:
        """Show them."""
        self.send(document(Kept(bookings=self.state.ledger.entries()).model_dump(mode="json")))

    def put(self) -> None:
        """Have these bookings, and no others."""
        kept = self.body(Kept)
        if kept is not None:
            self.state.ledger = Ledger.of(kept.bookings)
            self.send(document({"bookings": len(kept.bookings)}))


class FaultsHandler(ControlHandler):
    """GET, POST and DELETE: the faults in force."""

    def get(self) -> None:
        """Show the rules, each with how often it fired, and what a rule may say."""
        said = FaultRule.model_json_schema()["properties"]
        self.send(document({"faults": self.state.faults.to_json(), "rule": said}))

    def post(self) -> None:
        """Put one more rule in force."""
        rule = self.body(FaultRule)
        if rule is not None:
            self.state.faults.add(rule)
            self.send(document(rule.model_dump(), status=_CREATED))

    def delete(self) -> None:
        """Drop all rules."""
        self.send(document({"removed": self.state.faults.clear()}))


class SwitchesHandler(ControlHandler):
    """GET and POST: how the service behaves."""

    def get(self) -> None:
        """Show all switches."""
        self.send(document(self.state.switches.model_dump()))

    async def post(self) -> None:
        """Set the switches that are given, and leave the others."""
        switches = self.body(Switches, default=self.state.switches.model_dump())
        if switches is not None:
            self.state.switch(switches)
            if not switches.webhooks_reordered:
                await self.state.deliveries.let_go()
            self.send(document(switches.model_dump()))


class RequestsHandler(ControlHandler):
    """GET: the latest calls of the API."""

    def get(self) -> None:
        """Show them, the oldest first."""
        self.send(document({"requests": [asdict(record) for record in self.state.requests]}))


class CountsHandler(ControlHandler):
    """GET: how many calls of the API there were, by operation and status."""

    def get(self) -> None:
        """Show them; a call that got no answer counts as "none"."""
        statuses: Counter[str] = Counter()
        operations: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for (operation, status), count in self.state.counts.items():
            shown = str(status or "none")
            statuses[shown] += count
            operations[operation][shown] += count
        self.send(document({"calls": statuses.total(), "statuses": statuses, "operations": operations}))


class DeliveriesHandler(ControlHandler):
    """GET: everything that was to be sent to webhooks."""

    def get(self) -> None:
        """Show it, the oldest first."""
        self.send(document({"deliveries": self.state.deliveries.to_json()}))


class RepeatHandler(ControlHandler):
    """POST: one delivery once more, whatever became of it."""

    async def post(self, number: str) -> None:
        """Send the very same bytes, wait for the answer, and show the delivery."""
        try:
            delivery = await self.state.deliveries.repeat(int(number))
        except Refusal as refusal:
            self.send(refusal.reply(self.request.uri or ""))
        else:
            self.send(document(delivery.to_json()))


class ResetHandler(ControlHandler):
    """POST: back to the start."""

    def post(self) -> None:
        """Forget all that was made, asked for and switched on; take up another world, if one is given."""
        body = self.body(ResetBody, default={})
        if body is not None:
            self.state.reset(body.world, body.switches)
            self.send(document({"reset": True}))


def control_routes(state: State) -> list[tuple[str, type[SimulatorHandler], dict[str, State]]]:
    """Return the application's rules for these endpoints."""
    return [
        (path, handler, {"state": state})
        for path, handler in (
            (r"/_simulator/ledger", LedgerHandler),
            (r"/_simulator/bookings", BookingsHandler),
            (r"/_simulator/faults", FaultsHandler),
            (r"/_simulator/switches", SwitchesHandler),
            (r"/_simulator/requests", RequestsHandler),
            (r"/_simulator/counts", CountsHandler),
            (r"/_simulator/deliveries", DeliveriesHandler),
            (r"/_simulator/deliveries/(\d+)/repeat", RepeatHandler),
            (r"/_simulator/reset", ResetHandler),
        )
    ]
