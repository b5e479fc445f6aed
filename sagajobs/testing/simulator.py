"""The Cal.com simulator as a test sees it: faults set, ledger read, over the same socket as everybody else."""

from __future__ import annotations

from typing import Any, TypeAlias

import requests

from sagajobs.calcom.simulator import DEFAULT_API_KEY
from sagajobs.calcom.simulator.notices import SENT as TRIGGERS

Json: TypeAlias = dict[str, Any]

STANDING = ("accepted", "pending")
"""What a booking is that takes place, or may."""

_TIMEOUT = 60.0
"""Seconds to answer: it answers at once, unless the machine stands still."""


class Simulator:
    """The simulator's other side: what it is to do, and what it has seen.

    Args:
        url: where it listens.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = requests.Session()  # one connection: random histories make a hundred thousand of these calls
        self._http.trust_env = False

    def close(self) -> None:
        """End the connection."""
        self._http.close()

    def reset(self, **world: object) -> None:
        """Forget everything; `world` is the one to begin with."""
        self._http.post(f"{self.url}/_simulator/reset", json=world or None, timeout=_TIMEOUT).raise_for_status()

    def fault(self, operation: str, kind: str, when: str = "before", **how: object) -> None:
        """Have an operation fail in some way, before or after it is done: once, or as `how` says."""
        body = {"operation": operation, "kind": kind, "when": when, **(how or {"count": 1})}
        _done(self._http.post(f"{self.url}/_simulator/faults", json=body, timeout=_TIMEOUT))

    def heal(self) -> None:
        """Have nothing fail any more."""
        self._http.delete(f"{self.url}/_simulator/faults", timeout=_TIMEOUT).raise_for_status()

    def switch(self, **switches: object) -> None:
        """Set how it behaves."""
        self._http.post(f"{self.url}/_simulator/switches", json=switches, timeout=_TIMEOUT).raise_for_status()

    def ledger(self) -> list[Json]:
        """Return all bookings, each with its history."""
        return self._see("ledger", "bookings")

    def standing(self) -> list[Json]:
        """Return those that take place, or may."""
        return [booking for booking in self.ledger() if booking["status"] in STANDING]

    def kept(self) -> list[Json]:
        """Return all bookings in a form that can be put back."""
        return self._see("bookings", "bookings")

    def put_back(self, bookings: list[Json]) -> None:
        """Have these bookings, with their uids, and no others."""
        _done(self._http.put(f"{self.url}/_simulator/bookings", json={"bookings": bookings}, timeout=_TIMEOUT))

    def host(self, act: str, uid: str, **how: object) -> Json:
        """Do as a host does in the web app: cancel, move, reassign, confirm or decline."""
        done: Json = _done(
            self._http.post(f"{self.url}/_simulator/host/{act}", json={"uid": uid, **how}, timeout=_TIMEOUT)
        )
        return done

    def subscribe(self, url: str, *triggers: str, **more: object) -> Json:
        """Register a webhook, for all that is told of bookings unless triggers are given."""
        made: Json = _done(
            self._http.post(
                f"{self.url}/v2/webhooks",
                json={"subscriberUrl": url, "active": True, "triggers": triggers or TRIGGERS, **more},
                headers={"Authorization": f"Bearer {DEFAULT_API_KEY}"},
                timeout=_TIMEOUT,
            )
        )["data"]
        return made

    def deliveries(self) -> list[Json]:
        """Return what webhooks were sent, and what came of it."""
        return self._see("deliveries", "deliveries")

    def repeat(self, delivery_id: int) -> Json:
        """Send a past delivery once more."""
        sent: Json = _done(self._http.post(f"{self.url}/_simulator/deliveries/{delivery_id}/repeat", timeout=_TIMEOUT))
        return sent

    def counts(self) -> Json:
        """Return how many calls of each kind there were."""
        counted: Json = _done(self._http.get(f"{self.url}/_simulator/counts", timeout=_TIMEOUT))
        return counted

    def calls(self) -> list[Json]:
        """Return all calls, in order."""
        return self._see("requests", "requests")

    def _see(self, what: str, part: str) -> list[Json]:
        seen: list[Json] = _done(self._http.get(f"{self.url}/_simulator/{what}", timeout=_TIMEOUT))[part]
        return seen

    def limit(self, calls: int, *, window: float) -> None:
        """Refuse calls beyond so many in so many seconds, and all calls for as long again."""
        seconds = {"rate_limit_window_seconds": window, "rate_limit_block_seconds": window}
        self.switch(rate_limit_per_minute=calls, **seconds)

    def book(
        self, *, event_type_id: int, start: str, email: str = "somebody@elsewhere.example", **metadata: str
    ) -> Json:
        """Book as somebody else would, past us."""
        booked: Json = _done(
            self._http.post(
                f"{self.url}/v2/bookings",
                json={
                    "eventTypeId": event_type_id,
                    "start": start,
                    "attendee": {"name": "Somebody Else", "email": email, "timeZone": "UTC"},
                    "metadata": metadata,
                },
                headers={"cal-api-version": "2024-08-13"},
                timeout=_TIMEOUT,
            )
        )["data"]
        return booked


def _done(reply: requests.Response) -> Any:
    if not reply.ok:
        raise AssertionError(reply.text)
    return reply.json()
