"""JSON on record, such as a saga's input, with every value masked that may be about a person."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

MASK = "…"


def masked(value: Any, shown: AbstractSet[str], *, bare: bool = False) -> Any:
    """Return JSON with its names, and its values masked.

    Args:
        value: what is on record.
        shown: names whose values are about no person.
        bare: it stands behind one of these names. What it has of names of its own is masked all the same.
    """
    if isinstance(value, Mapping):
        return dict(_entry(key, inner, shown) for key, inner in value.items())
    if isinstance(value, list):
        return [masked(inner, shown, bare=bare) for inner in value]
    return value if bare else MASK


def _entry(key: str, value: Any, shown: AbstractSet[str]) -> tuple[str, Any]:
    # What is no name in a program may be a customer's: an address that something is kept under.
    return (key, masked(value, shown, bare=key in shown)) if key.isascii() and key.isidentifier() else (MASK, MASK)
