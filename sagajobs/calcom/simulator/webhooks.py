"""The webhooks that are registered: /v2/webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sagajobs.calcom.simulator.fields import read_object
from sagajobs.calcom.simulator.replies import invalid, nest, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "2021-10-20"
"""The only version of the payloads that is simulated."""

# What may be subscribed to. BOOKING_CONFIRMED is not among them, though examples name it.
_TRIGGERS = frozenset(
    {
        "BOOKING_CREATED", "BOOKING_PAYMENT_INITIATED", "BOOKING_PAID", "BOOKING_RESCHEDULED", "BOOKING_REQUESTED",
        "BOOKING_CANCELLED", "BOOKING_REJECTED", "BOOKING_NO_SHOW_UPDATED", "FORM_SUBMITTED", "MEETING_ENDED",
        "MEETING_STARTED", "RECORDING_READY", "INSTANT_MEETING", "RECORDING_TRANSCRIPTION_GENERATED", "OOO_CREATED",
        "AFTER_HOSTS_CAL_VIDEO_NO_SHOW", "AFTER_GUESTS_CAL_VIDEO_NO_SHOW", "FORM_SUBMITTED_NO_EVENT",
        "ROUTING_FORM_FALLBACK_HIT", "DELEGATION_CREDENTIAL_ERROR", "WRONG_ASSIGNMENT_REPORT",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where to tell what; `secret` signs it, if there is one."""

    id: int
    url: str
    active: bool
    triggers: tuple[str, ...]
    secret: str | None

    def to_json(self, user_id: int) -> dict[str, Any]:
        """Return it as the API shows it to its owner."""
        shown: dict[str, Any] = {
            "id": self.id,
            "userId": user_id,
            "subscriberUrl": self.url,
            "active": self.active,
            "triggers": list(self.triggers),
            "payloadTemplate": "",
        }
        return shown | ({"secret": self.secret} if self.secret else {})


class Webhooks:
    """All webhooks, in the order in which they were registered.

    They belong to the user whose API keys are accepted, and hear of the bookings that he has rights on.
    """

    def __init__(self) -> None:
        self._all: dict[int, Webhook] = {}
        self._last = 0

    def add(self, content: bytes) -> Webhook:
        """Register what a body of POST /v2/webhooks asks for.

        Raises:
            Refusal: 400; 409 for a URL that is registered; 501 for a payload template.
        """
        body = read_object(content)
        errors = list(_problems(body))
        if errors:
            raise invalid(*errors)
        if body.get("payloadTemplate"):
            raise plain(501, "payloadTemplate is not simulated")
        url = body["subscriberUrl"]
        if any(one.url == url for one in self._all.values()):
            raise nest(409, "Webhook with this subscriber url already exists for this user")
        self._last += 1
        webhook = Webhook(
            id=self._last,
            url=url,
            active=body["active"],
            triggers=tuple(dict.fromkeys(body["triggers"])),
            secret=body.get("secret") or None,
        )
        self._all[webhook.id] = webhook
        return webhook

    def get(self, ref: str) -> Webhook:
        """Return one.

        Raises:
            Refusal: 404.
        """
        found = self._all.get(int(ref)) if ref.isdecimal() else None
        if found is None:
            raise nest(404, f"Webhook ({ref}) not found")
        return found

    def remove(self, ref: str) -> Webhook:
        """Drop one and return it.

        Raises:
            Refusal: 404.
        """
        return self._all.pop(self.get(ref).id)

    def all(self) -> list[Webhook]:
        """Return all of them."""
        return list(self._all.values())

    def subscribed(self, trigger: str) -> list[Webhook]:
        """Return those that are to be told."""
        return [one for one in self._all.values() if one.active and trigger in one.triggers]


def _problems(body: dict[str, Any]) -> Iterator[str]:
    url = body.get("subscriberUrl")
    if not isinstance(url, str) or urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        yield "subscriberUrl must be a URL"
    if not isinstance(body.get("active"), bool):
        yield "active must be a boolean value"
    triggers = body.get("triggers")
    if not isinstance(triggers, list) or not all(isinstance(one, str) and one in _TRIGGERS for one in triggers):
        yield f"each value in triggers must be one of {', '.join(sorted(_TRIGGERS))}"
    for name in ("secret", "payloadTemplate"):
        if not isinstance(body.get(name), str | None):
            yield f"{name} must be a string"
    if body.get("version") not in {None, VERSION}:
        yield f"version must be {VERSION}"
