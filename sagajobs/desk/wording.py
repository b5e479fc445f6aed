"""Times, errors and results as a person reads them, on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sagajobs.saga.states import StepState

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def span(seconds: float | None) -> str:
    """Say how long something takes: ``0.25 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``4 d 3 h``."""
    if seconds is None:
        return "-"
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < _MINUTE:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - one digit before the point
    whole = int(seconds)
    for unit, name, smaller, smaller_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    raise AssertionError("a minute is the smallest unit")


def moment(at: datetime | None) -> str:
    """Say when something was, with its offset from UTC."""
    return "-" if at is None else at.isoformat(sep=" ", timespec="seconds")


def cause(error: Mapping[str, Any]) -> str:
    """Say an error on record by its class; its message is there only if it may be shown."""
    name = str(error.get("class", "?")).rpartition(".")[2]
    return f"{name}: {error['message']}" if error.get("message") else name


def pairs(value: Any) -> str:
    """Write JSON as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={pairs(inner) if inner is not None else None}" for key, inner in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(map(pairs, value)) + "]"
    return str(value)


def doing(step: Mapping[str, Any]) -> str:
    """Say what a step waits for, or who works on it.

    Args:
        step: as `queries.steps` returns it: `state`, `owner`, and `due_in`, `leased_for` in seconds or None.
    """
    leased = step["leased_for"] or 0
    if leased > 0:
        return f"{step['owner']} for {span(leased)} more"
    if step["state"] in (StepState.RUNNING, StepState.UNDOING):
        return "its worker is gone"
    if step["state"] in (StepState.WAITING, StepState.UNKNOWN) and (step["due_in"] or 0) > 0:
        return f"due in {span(step['due_in'])}"
    return "-"
