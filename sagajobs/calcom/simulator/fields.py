"""Reading the fields of request bodies, one kind at a time; what is wrong is a 400 in the service's words."""

from __future__ import annotations

import functools
import json
import re
import zoneinfo
from datetime import UTC, datetime
from typing import Any

from sagajobs.calcom.simulator.replies import Refusal, nest

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_LANGUAGES = frozenset(
    {
        "ar", "ca", "de", "es", "eu", "he", "id", "ja", "lv", "pl", "ro", "sr", "th", "vi", "az", "cs", "el",
        "es-419", "fi", "hr", "it", "km", "nl", "pt", "ru", "sv", "tr", "zh-CN", "bg", "da", "en", "et", "fr",
        "hu", "iw", "ko", "no", "pt-BR", "sk", "ta", "uk", "zh-TW", "bn",
    }
)  # fmt: skip


def wrong(name: str, why: str) -> Refusal:
    """Refuse a field."""
    return nest(400, f"{name} property is wrong,{why}")


def read_object(content: bytes, *, known: frozenset[str] | None = None) -> dict[str, Any]:
    """Read a body, which must be a JSON object; none at all is an empty one.

    Args:
        content: the bytes.
        known: the only fields that are allowed, or None where the service drops those that it does not know.

    Raises:
        Refusal: 400.
    """
    try:
        body = json.loads(content or b"{}")
    except ValueError:
        raise nest(400, "The body is not valid JSON") from None
    if not isinstance(body, dict):
        raise nest(400, "The body must be an object")
    if known is not None:
        refuse_unknown(body, known)
    return body


def refuse_unknown(value: dict[str, Any], known: frozenset[str], prefix: str = "") -> None:
    """Refuse fields that are not known.

    Raises:
        Refusal: 400.
    """
    for name in value:
        if name not in known:
            raise wrong(prefix + name, f"property {name} should not exist")


def read_text(body: dict[str, Any], name: str, *, prefix: str = "") -> str | None:
    """Return a field that is text, or None.

    Raises:
        Refusal: 400.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise wrong(prefix + name, f"{name} must be a string")
    return value


def read_flag(body: dict[str, Any], name: str) -> bool | None:
    """Return a field that is true or false, or None.

    Raises:
        Refusal: 400.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(name, f"{name} must be a boolean value")
    return value


def read_integer(body: dict[str, Any], name: str) -> int | None:
    """Return a field that is a whole number, or None.

    Raises:
        Refusal: 400.
    """
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise wrong(name, f"{name} must be an integer")
    return value


def read_moment(body: dict[str, Any], name: str) -> datetime:
    """Return a field that is a point in time, in UTC and whole milliseconds; one without an offset is in UTC.

    Raises:
        Refusal: 400.
    """
    text = read_text(body, name)
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        raise wrong(name, f"{name} must be a valid ISO 8601 date string") from None
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def read_email(body: dict[str, Any], name: str, *, prefix: str = "") -> str | None:
    """Return a field that is an address, or None.

    Raises:
        Refusal: 400.
    """
    value = read_text(body, name, prefix=prefix)
    if value and not is_email(value):
        raise wrong(prefix + name, f"{name} must be an email")
    return value


def read_phone(body: dict[str, Any], name: str, *, prefix: str = "") -> str | None:
    """Return a field that is a phone number in international format, or None.

    Raises:
        Refusal: 400.
    """
    value = read_text(body, name, prefix=prefix)
    if value and not _E164.fullmatch(value):
        raise wrong(prefix + name, f"{name} must be in international format")
    return value


def read_language(body: dict[str, Any], name: str, *, prefix: str = "") -> str | None:
    """Return a field that is one of the languages, or None.

    Raises:
        Refusal: 400.
    """
    value = read_text(body, name, prefix=prefix)
    if value and value not in _LANGUAGES:
        raise wrong(prefix + name, f"{name} must be one of the known codes")
    return value


def read_zone(body: dict[str, Any], name: str, *, prefix: str = "") -> str | None:
    """Return a field that is a time zone, or None.

    Raises:
        Refusal: 400.
    """
    value = read_text(body, name, prefix=prefix)
    if value is not None and not is_zone(value):
        raise wrong(prefix + name, f"{name} must be a valid IANA time-zone")
    return value


def is_email(value: Any) -> bool:
    """Tell whether this is an address."""
    return isinstance(value, str) and _EMAIL.fullmatch(value) is not None


def is_zone(value: str) -> bool:
    """Tell whether this is a time zone of the IANA database."""
    return value in _time_zones()


@functools.cache
def _time_zones() -> frozenset[str]:
    """Return every IANA name; cached, because finding them reads a whole directory tree."""
    return frozenset(zoneinfo.available_timezones())
