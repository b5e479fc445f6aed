"""The Cal.com simulator as a test sees it: faults set, ledger read, over the same socket as everybody else."""

from __future__ import annotations

import requests

from sagajobs.calcom.simulator import DEFAULT_API_KEY
from sagajobs.calcom.simulator.notices import SENT as TRIGGERS

STANDING = ("accepted", "pending")


class Simulator:
    def __init__(self, url: str) -> None:
        self.url = url
        self._http = requests.Session()  # one connection: random histories make a hundred thousand of these calls
        self._http.trust_env = False

    def close(self) -> None:
        self._http.close()

    def reset(self, **world: object) -> None:
        self._http.post(f"{self.url}/_simulator/reset", json=world or None, timeout=5).raise_for_status()

    def fault(self, operation: str, kind: str, when: str = "before", **how: object) -> None:
        body = {"operation": operation, "kind": kind, "when": when, **(how or {"count": 1})}
        reply = self._http.post(f"{self.url}/_simulator/faults", json=body, timeout=5)
        assert reply.ok, reply.text

    def heal(self) -> None:
        self._http.delete(f"{self.url}/_simulator/faults", timeout=5).raise_for_status()

    def switch(self, **switches: object) -> None:
        self._http.post(f"{self.url}/_simulator/switches", json=switches, timeout=5).raise_for_status()

    def ledger(self) -> list[dict]:
        return self._http.get(f"{self.url}/_simulator/ledger", timeout=5).json()["bookings"]

    def standing(self) -> list[dict]:
        return [booking for booking in self.ledger() if booking["status"] in STANDING]

    def host(self, act: str, uid: str, **how: object) -> dict:
        """Do as a host does in the web app: cancel, move, reassign, confirm or decline."""
        reply = self._http.post(f"{self.url}/_simulator/host/{act}", json={"uid": uid, **how}, timeout=5)
        assert reply.ok, reply.text
        return reply.json()

    def subscribe(self, url: str, *triggers: str, **more: object) -> dict:
        """Register a webhook, for all that is told of bookings unless triggers are given."""
        reply = self._http.post(
            f"{self.url}/v2/webhooks",
            json={"subscriberUrl": url, "active": True, "triggers": triggers or TRIGGERS, **more},
            headers={"Authorization": f"Bearer {DEFAULT_API_KEY}"},
            timeout=5,
        )
        assert reply.status_code == 201, reply.text
        return reply.json()["data"]

    def deliveries(self) -> list[dict]:
        return self._http.get(f"{self.url}/_simulator/deliveries", timeout=5).json()["deliveries"]

    def repeat(self, delivery_id: int) -> dict:
        """Send a past delivery once more."""
        reply = self._http.post(f"{self.url}/_simulator/deliveries/{delivery_id}/repeat", timeout=5)
        assert reply.ok, reply.text
        return reply.json()

    def counts(self) -> dict:
        return self._http.get(f"{self.url}/_simulator/counts", timeout=5).json()

    def calls(self) -> list[dict]:
        return self._http.get(f"{self.url}/_simulator/requests", timeout=5).json()["requests"]

    def limit(self, calls: int, *, window: float) -> None:
        """Refuse calls beyond so many in so many seconds, and all calls for as long again."""
        seconds = {"rate_limit_window_seconds": window, "rate_limit_block_seconds": window}
        self.switch(rate_limit_per_minute=calls, **seconds)

    def book(self, *, event_type_id: int, start: str, email: str = "somebody@elsewhere.example") -> dict:
        """Book as somebody else would, past us."""
        reply = self._http.post(
            f"{self.url}/v2/bookings",
            json={
                "eventTypeId": event_type_id,
                "start": start,
                "attendee": {"name": "Somebody Else", "email": email, "timeZone": "UTC"},
            },
            headers={"cal-api-version": "2024-08-13"},
            timeout=5,
        )
        assert reply.status_code == 201, reply.text
        return reply.json()["data"]
