"""Webhooks from Cal.com: is it theirs, and what does it tell?

A webhook is a hint. It carries no event id and no time in its signature, is sent once and never again, and may be lost,
doubled, late, early (before the API's own answer, before the change itself) and out of order. So nothing here is taken
for the state of a booking: whoever gets a `Webhook` asks Cal.com.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from sagajobs.calcom.errors import WebhookMalformed, WebhookTooLarge, WebhookUnsigned
from sagajobs.calcom.models import timestamp

SIGNATURE_HEADER = "X-Cal-Signature-256"
"""Hex HMAC-SHA256 of the raw body; the words `no-secret-provided` from a webhook that was set up without a secret."""

MAX_BODY = 1 << 20
"""Bytes: a hundred times what a booking's webhook takes, so that nobody has us hash what he likes."""


class Trigger(StrEnum):
    """What happened to a booking, as far as it can change an appointment; Cal.com has other triggers."""

    CREATED = "BOOKING_CREATED"
    """Accepted: at once, or by a person who confirmed it."""
    REQUESTED = "BOOKING_REQUESTED"
    """Waits to be confirmed, newly made or moved."""
    RESCHEDULED = "BOOKING_RESCHEDULED"
    """Moved: `uid` is the new booking, `reschedule_uid` the one it took the place of."""
    CANCELLED = "BOOKING_CANCELLED"
    REJECTED = "BOOKING_REJECTED"
    """Declined."""
    PAID = "BOOKING_PAID"
    REASSIGNED = "BOOKING_REASSIGNED"
    """Another host, the same uid."""


FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Beyond them lie times that are no year of Python's in some time zone."""

Uid = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")]


def _strings_only(value: Any) -> Any:
    """Return what a metadata object has in text; Cal.com leaves metadata out, or null, for some triggers."""
    if not isinstance(value, Mapping):
        return {}
    return {key: item for key, item in value.items() if isinstance(item, str)}


class Webhook(BaseModel):
    """What a webhook says of a booking; nothing about a person is kept.

    Attributes:
        trigger: what happened.
        created_at: when Cal.com made the message.
        uid: of the booking.
        reschedule_uid: of the booking that this one took the place of.
        metadata: of the booking, as given when it was made. Missing (empty) on cancel and decline, and without our
            part on confirm.
    """

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True, hide_input_in_errors=True)

    trigger: Trigger
    created_at: Annotated[AwareDatetime, Field(ge=FIRST, lt=LAST)]
    uid: Uid
    reschedule_uid: Uid | None = None
    metadata: Annotated[dict[str, str], BeforeValidator(_strings_only)] = Field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        """What tells this webhook from every other one, as Cal.com gives it no id: the same for each of its copies."""
        told = f"{self.trigger} {self.uid} {timestamp(self.created_at)}"
        return hashlib.sha256(told.encode()).hexdigest()


class _Envelope(BaseModel):
    """A body, before we know whether we understand its trigger (that of MEETING_STARTED and MEETING_ENDED is flat)."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True, hide_input_in_errors=True)

    trigger_event: Annotated[str, StringConstraints(max_length=100)]
    created_at: Any = Field(default=None, repr=False)
    payload: Any = Field(default=None, repr=False)


def sign(body: bytes, secret: SecretStr) -> str:
    """Return the signature of a body, as Cal.com writes it."""
    return hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()


def read_webhook(body: bytes, signature: str | None, secret: SecretStr) -> Webhook | None:
    """Check a webhook and return what it says; None if that is nothing that we follow.

    Args:
        body: the bytes as they came; parsed and written again they would have another signature.
        signature: value of the header `SIGNATURE_HEADER`, None if there is none.
        secret: what Cal.com was given to sign with.

    Raises:
        WebhookTooLarge: the body has more than `MAX_BODY` bytes; nothing was looked at.
        WebhookUnsigned: the signature is missing or wrong; the body was not looked at.
        WebhookMalformed: Cal.com signed it, and it is no webhook of theirs that we can read.
    """
    if len(body) > MAX_BODY:
        raise WebhookTooLarge(f"the body has more than {MAX_BODY} bytes")
    _check_signature(body, signature, secret)
    try:
        envelope = _Envelope.model_validate_json(body)
        if envelope.trigger_event not in set(Trigger):
            return None
        payload = envelope.payload if isinstance(envelope.payload, dict) else {}
        return Webhook.model_validate(
            {**payload, "trigger": envelope.trigger_event, "createdAt": envelope.created_at},
        )
    except ValidationError as error:
        # The names of fields only: what stands in them is about a person.
        fields = ", ".join(
            ".".join(map(str, problem["loc"])) or "body" for problem in error.errors(include_input=False)
        )
        raise WebhookMalformed(f"no readable webhook of Cal.com's: {fields}") from None


def _check_signature(body: bytes, signature: str | None, secret: SecretStr) -> None:
    if signature is None:
        raise WebhookUnsigned(f"the header {SIGNATURE_HEADER} is missing")
    # Compared as bytes: text that is not ASCII would be an exception instead of a refusal.
    if not hmac.compare_digest(sign(body, secret).encode(), signature.strip().encode("utf-8", "replace")):
        raise WebhookUnsigned("the signature does not fit the body; the secret here and at Cal.com must be the same")
