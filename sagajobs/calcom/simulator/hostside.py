"""What hosts do in Cal.com's web app, past the API: the same rules, with a host's rights, and the same webhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel, ConfigDict

from sagajobs.calcom.simulator import bookings, output
from sagajobs.calcom.simulator.bodies import CancelBody, RescheduleBody
from sagajobs.calcom.simulator.confirming import confirm, decline
from sagajobs.calcom.simulator.control import ControlHandler
from sagajobs.calcom.simulator.reassigning import reassign
from sagajobs.calcom.simulator.replies import Refusal, document, nest
from sagajobs.calcom.simulator.rescheduling import reschedule

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sagajobs.calcom.simulator.handlers import SimulatorHandler
    from sagajobs.calcom.simulator.ledger import Row
    from sagajobs.calcom.simulator.state import State
    from sagajobs.calcom.simulator.world import Host


class HostAct(BaseModel):
    """What a host does with a booking; `reason` is one of his own words."""

    model_config = ConfigDict(extra="forbid")

    uid: str
    reason: str = "The host cannot come"


class HostMove(HostAct):
    """A move to another start."""

    start: AwareDatetime


class HostReassignment(BaseModel):
    """A booking for another host; without his id it is whoever is free."""

    model_config = ConfigDict(extra="forbid")

    uid: str
    host: int | None = None


class HostHandler(ControlHandler):
    """Carries out an act, and answers with the booking as it is then, or as the API would refuse it."""

    async def answer(self, act: Awaitable[Row]) -> None:
        """Await the act and answer; webhooks that wait for the answer are sent then."""
        try:
            row = await act
        except Refusal as refusal:
            self.send(refusal.reply(self.request.uri or ""))
        else:
            self.send(document(output.booking(row, self.state.world)))
        self.state.deliveries.release()

    def host(self, uid: str) -> Host:
        """Return who hosts a booking.

        Raises:
            Refusal: 404, if there is no such booking.
        """
        row = self.state.ledger.get(uid)
        if row is None:
            raise nest(404, f"Booking with uid={uid} was not found in the database")
        return self.state.world.host(row.host_id)


class CancelHandler(HostHandler):
    """POST: the host cancels."""

    async def post(self) -> None:
        """Cancel."""
        body = self.body(HostAct)
        if body is not None:
            await self.answer(self._cancelled(body))

    async def _cancelled(self, body: HostAct) -> Row:
        by = bookings.Canceller(is_host=True, email=self.host(body.uid).email)
        reason = CancelBody(reason=body.reason, seat_uid=None)
        return await bookings.cancel(self.state, body.uid, reason, self.request_id, by)


class MoveHandler(HostHandler):
    """POST: the host moves it, which needs no confirmation."""

    async def post(self) -> None:
        """Move, and show the new booking."""
        body = self.body(HostMove)
        if body is not None:
            await self.answer(self._moved(body))

    async def _moved(self, body: HostMove) -> Row:
        host = self.host(body.uid)
        move = RescheduleBody(start=_utc(body.start), by=host.email, reason=body.reason)
        return await reschedule(self.state, body.uid, move, self.request_id, caller=host.id)


class ReassignHandler(HostHandler):
    """POST: another host takes over."""

    async def post(self) -> None:
        """Reassign."""
        body = self.body(HostReassignment)
        if body is not None:
            await self.answer(self._reassigned(body))

    async def _reassigned(self, body: HostReassignment) -> Row:
        by = self.host(body.uid).id
        return reassign(self.state, body.uid, body.host, self.request_id, by=by, allowed=True)


class ConfirmHandler(HostHandler):
    """POST: the host confirms."""

    async def post(self) -> None:
        """Confirm."""
        body = self.body(HostAct)
        if body is not None:
            await self.answer(confirm(self.state, body.uid, self.request_id, allowed=True))


class DeclineHandler(HostHandler):
    """POST: the host declines."""

    async def post(self) -> None:
        """Decline."""
        body = self.body(HostAct)
        if body is not None:
            await self.answer(decline(self.state, body.uid, body.reason, self.request_id, allowed=True))


def _utc(value: datetime) -> datetime:
    value = value.astimezone(UTC)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def host_routes(state: State) -> list[tuple[str, type[SimulatorHandler], dict[str, State]]]:
    """Return the application's rules for these endpoints."""
    return [
        (rf"/_simulator/host/{act}", handler, {"state": state})
        for act, handler in (
            ("cancel", CancelHandler),
            ("move", MoveHandler),
            ("reassign", ReassignHandler),
            ("confirm", ConfirmHandler),
            ("decline", DeclineHandler),
        )
    ]
