"""What is taken for a webhook of Cal.com's, what it says, and what it does not say."""

from __future__ import annotations

import contextlib
import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from sagajobs.calcom.errors import WebhookMalformed, WebhookRefused, WebhookTooLarge, WebhookUnsigned
from sagajobs.calcom.webhooks import MAX_BODY, Trigger, Webhook, read_webhook, sign

SECRET = SecretStr("correct horse battery staple")
PERSON = "zebulon@quagmire.example"


def body(trigger: str = "BOOKING_CREATED", created: object = "2026-05-04T10:00:00.123Z", **payload) -> bytes:
    payload = {
        "uid": "uid1",
        "bookingId": 7,
        "title": f"30 min with {PERSON}",
        "attendees": [{"email": PERSON}],
        "responses": {"email": {"value": PERSON}},
        "metadata": {"videoCallUrl": "https://video.example", "ours": "key", "number": 3},
        **payload,
    }
    return json.dumps({"triggerEvent": trigger, "createdAt": created, "payload": payload}).encode()


def read(raw: bytes) -> Webhook | None:
    return read_webhook(raw, sign(raw, SECRET), SECRET)


def test_the_signature_is_that_of_a_known_example():
    """RFC 4231, test case 2."""
    signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert sign(b"what do ya want for nothing?", SecretStr("Jefe")) == signature


def test_a_webhook_is_read_without_what_is_about_a_person():
    webhook = read(body("BOOKING_RESCHEDULED", rescheduleUid="uid0"))
    assert (webhook.trigger, webhook.uid, webhook.reschedule_uid) == (Trigger.RESCHEDULED, "uid1", "uid0")
    assert webhook.created_at.isoformat() == "2026-05-04T10:00:00.123000+00:00"
    assert webhook.metadata == {"videoCallUrl": "https://video.example", "ours": "key"}
    assert "quagmire" not in str(webhook.model_dump())
    assert "key" not in repr(webhook)


@pytest.mark.parametrize("metadata", [None, [], "text", {}])
def test_metadata_may_be_missing_or_anything(metadata):
    assert read(body(metadata=metadata)).metadata == {}


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps({"triggerEvent": "MEETING_ENDED", "id": 1, "uid": "uid1", "attendees": [PERSON]}).encode(),
        json.dumps({"triggerEvent": "PING", "createdAt": "x", "payload": {}}).encode(),
        body("BOOKING_NO_SHOW_UPDATED", uid=None),
        body("SOMETHING_THAT_COMES_NEXT_YEAR"),
    ],
)
def test_what_nobody_follows_is_ignored(raw):
    assert read(raw) is None


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "no-secret-provided",
        "0" * 64,
        sign(body(), SecretStr("another secret")),
        f"sha256={sign(body(), SECRET)}",
        "\u00e9" * 64,
        "\udc80",
    ],
)
def test_a_signature_that_is_missing_or_wrong_is_refused(signature):
    with pytest.raises(WebhookUnsigned):
        read_webhook(body(), signature, SECRET)


def test_it_is_the_bytes_that_are_signed():
    """The same document, written another way."""
    raw = body()
    other = json.dumps(json.loads(raw), indent=1).encode()
    assert json.loads(other) == json.loads(raw)
    with pytest.raises(WebhookUnsigned):
        read_webhook(other, sign(raw, SECRET), SECRET)


def test_the_signature_is_checked_before_anything_is_read():
    with pytest.raises(WebhookUnsigned):
        read_webhook(b"{", None, SECRET)


def test_too_large_comes_before_everything():
    with pytest.raises(WebhookTooLarge):
        read_webhook(b" " * (MAX_BODY + 1), None, SECRET)
    with pytest.raises(WebhookMalformed):
        read(b" " * MAX_BODY)


MALFORMED = [
    b"",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"triggerEvent": ' + b"[" * 100_000,
    b'{"triggerEvent": 5}',
    body(uid=None),
    body(uid=f"../{PERSON}"),
    body(uid=""),
    body(created=None),
    body(created="yesterday"),
    body(created="2026-05-04T10:00:00"),
    body(created="0001-01-01T00:00:00+14:00"),
    body(created="9999-12-31T23:59:59-14:00"),
    body(created=float("nan")),
    body(created=1e18),
    body(rescheduleUid=PERSON),
    json.dumps({"triggerEvent": "BOOKING_CREATED", "createdAt": "2026-05-04T10:00:00Z"}).encode(),
]


@pytest.mark.parametrize("raw", MALFORMED)
def test_signed_and_not_readable_is_malformed_and_quotes_nothing(raw):
    with pytest.raises(WebhookMalformed) as caught:
        read(raw)
    said = "".join(traceback.format_exception(caught.value))
    assert "quagmire" not in said
    assert "\n" not in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["triggerEvent", "createdAt", "payload", "uid", "BOOKING_CREATED"]) | st.text(), inner
            )
        ),
    )
)
def test_any_document_is_read_ignored_or_refused(document):
    with contextlib.suppress(WebhookRefused):
        read(json.dumps(document).encode())


def test_copies_have_one_key_and_others_have_another():
    first = read(body())
    assert read(body(title="another text")).key == first.key
    assert read(body(created="2026-05-04T12:00:00.123+02:00")).key == first.key
    others = [body("BOOKING_PAID"), body(uid="uid2"), body(created="2026-05-04T10:00:00.124Z")]
    assert len({first.key, *(read(other).key for other in others)}) == 4
