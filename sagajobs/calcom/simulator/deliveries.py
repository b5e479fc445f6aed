"""Sending to webhooks: once, signed, and with the bad habits that are switched on."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from sagajobs.calcom.simulator.output import moment
from sagajobs.calcom.simulator.replies import nest
from sagajobs.calcom.simulator.webhooks import VERSION

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from sagajobs.calcom.simulator.notices import Notice
    from sagajobs.calcom.simulator.state import State
    from sagajobs.calcom.simulator.webhooks import Webhook

UNSIGNED = "no-secret-provided"
_AT_ONCE = 1000  # more receivers than that wait for each other


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One notice for one webhook.

    `fate` is "waiting", "sent", "lost" or "held"; `answers` has one entry each time that it was sent.
    """

    id: int
    webhook_id: int
    url: str
    trigger: str
    uid: str
    created_at: str
    body: bytes
    signature: str
    fate: str = "waiting"
    answers: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return it as the control endpoint shows it."""
        return {
            "id": self.id,
            "webhookId": self.webhook_id,
            "url": self.url,
            "trigger": self.trigger,
            "uid": self.uid,
            "createdAt": self.created_at,
            "body": self.body.decode(),
            "signature": self.signature,
            "fate": self.fate,
            "answers": self.answers,
        }


def sign(body: bytes, secret: str | None) -> str:
    """Return the signature of a body: HMAC-SHA256 in hex, or the words that stand for none."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() if secret else UNSIGNED


class Deliveries:
    """Everything that was to be sent since the last reset, the oldest first.

    Args:
        state: for webhooks, switches and clock.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._all: list[Delivery] = []
        self._posted = 0
        self._held: list[Delivery] = []
        self._after_reply: list[Delivery] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def tell(self, notice: Notice) -> None:
        """Tell whoever has subscribed to it, and wait for the answers; or, if that is switched off, put it aside."""
        if not self._state.administers(notice.uid):
            return
        now = moment(self._state.now)
        made = [self._made(webhook, notice, now) for webhook in self._state.webhooks.subscribed(notice.trigger)]
        if self._state.switches.webhooks_before_reply:
            await asyncio.gather(*map(self._post, made))
        else:
            self._after_reply.extend(made)

    def release(self) -> None:
        """Send what was put aside: the call that caused it has been answered."""
        if self._after_reply:
            self._start(self._post_all(self._after_reply))
            self._after_reply = []

    async def let_go(self) -> None:
        """Send what is held back, the last first."""
        held, self._held = self._held[::-1], []
        for delivery in held:
            await self._send(delivery)

    async def repeat(self, number: int) -> Delivery:
        """Send a delivery again, the very same bytes.

        Raises:
            Refusal: 404.
        """
        found = next((one for one in self._all if one.id == number), None)
        if found is None:
            raise nest(404, f"There is no delivery with id {number}")
        await self._send(found)
        return found

    def to_json(self) -> list[dict[str, Any]]:
        """Return all of them."""
        return [delivery.to_json() for delivery in self._all]

    def close(self) -> None:
        """Give up what is under way."""
        for task in tuple(self._tasks):
            task.cancel()

    def _made(self, webhook: Webhook, notice: Notice, created_at: str) -> Delivery:
        document = {"triggerEvent": notice.trigger, "createdAt": created_at, "payload": notice.payload}
        body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        delivery = Delivery(
            id=len(self._all) + 1,
            webhook_id=webhook.id,
            url=webhook.url,
            trigger=notice.trigger,
            uid=notice.uid,
            created_at=created_at,
            body=body,
            signature=sign(body, webhook.secret),
        )
        self._all.append(delivery)
        return delivery

    async def _post_all(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            await self._post(delivery)

    async def _post(self, delivery: Delivery) -> None:
        self._posted += 1
        switches = self._state.switches
        if self._is_nth(switches.webhooks_lost):
            delivery.fate = "lost"
            return
        if self._is_nth(switches.webhooks_reordered):
            delivery.fate = "held"
            self._held.append(delivery)
            return
        twice = self._is_nth(switches.webhooks_doubled)
        await self._send(delivery)
        if twice:
            await self._send(delivery)
        await self.let_go()

    def _is_nth(self, n: int) -> bool:
        return n > 0 and self._posted % n == 0

    async def _send(self, delivery: Delivery) -> None:
        """Send it and note the answer, whatever it is: there is no second attempt."""
        delivery.fate = "sent"
        task = self._start(_fetch(self._state.http, delivery))
        await asyncio.wait({task})
        if task.cancelled():
            delivery.answers.append({"status": None, "error": "given up"})
        elif error := task.exception():
            delivery.answers.append({"status": None, "error": f"{type(error).__name__}: {error}"})
        else:
            delivery.answers.append({"status": task.result(), "error": None})

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def new_client() -> AsyncHTTPClient:
    """Return what sends; it must be made where the event loop runs."""
    return AsyncHTTPClient(force_instance=True, max_clients=_AT_ONCE)


async def _fetch(client: AsyncHTTPClient, delivery: Delivery) -> int:
    request = HTTPRequest(
        delivery.url,
        method="POST",
        headers={
            "Content-Type": "application/json",
            "X-Cal-Signature-256": delivery.signature,
            "X-Cal-Webhook-Version": VERSION,
        },
        body=delivery.body,
        follow_redirects=False,
        # The service sets no time limit: a silent receiver holds up the call that he is told of.
        connect_timeout=0,
        request_timeout=0,
    )
    return (await client.fetch(request, raise_error=False)).code
