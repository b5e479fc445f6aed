"""Times, errors and results as a person reads them, on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sagajobs.saga.states import StepState

_MILLISECOND, _MINUTE, _HOUR, _DAY = 0.001, 60, 3600, 86400


def span(seconds: float | None) -> str:
    """Say how long something takes: ``< 1 ms``, ``0.25 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``4 d 3 h``."""
    if seconds is None:
        return "-"
    if 0 < abs(seconds) < _MILLISECOND:
        return "< 1 ms"
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < 10:  # noqa: PLR2004 - one digit before the point
        return f"{round(seconds, 3):.3g} s"
    whole = round(seconds)
    for unit, name, smaller, smaller_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"


def since_start(seconds: float) -> str:
    """Say how long after its saga's start something was."""
    said = span(round(seconds, 3) or 0.0)
    return said if said.startswith("-") else f"+{said}"


def coming(seconds: float | None) -> str:
    """Say when something will be, or how long ago it was: ``in 2 h 10 min``, ``5 s ago``."""
    if seconds is None:
        return "-"
    return f"in {span(seconds)}" if seconds >= 0 else f"{span(-seconds)} ago"


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
        return ", ".join(f"{key}={_within(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(map(_within, value)) + "]"
    return str(value)


def _within(value: Any) -> str:
    """Write what stands behind a name, or in a list; what has names of its own is kept apart from its neighbours."""
    if value is None:
        return "None"
    return f"({pairs(value)})" if isinstance(value, Mapping) else pairs(value)


def trouble(step: Mapping[str, Any]) -> str:
    """Say by which class of error a step, or the undo that is being tried, failed last; `-` if it did not.

    Nor if it is undone by now: nothing is wrong with it any more.
    """
    if step["state"] == StepState.UNDONE:
        return "-"
    if step.get("undo_error"):
        return cause({"class": step["undo_error"]})
    return cause(step["error"]) if step["error"] else "-"


def doing(step: Mapping[str, Any]) -> str:
    """Say what a step waits for, or who works on it.

    Args:
        step: as `queries.steps` returns it: `state`, `owner`, and `due_in`, `leased_for` in seconds or None.
    """
    leased = step["leased_for"] or 0
    if leased > 0:
        return f"{step['owner']} for {span(leased)} more"
    due = step["due_in"]
    if step["state"] in (StepState.RUNNING, StepState.UNDOING) and due is None:  # an undo that failed has its time
        return "its worker is gone"
    if step["state"] in (StepState.WAITING, StepState.UNKNOWN, StepState.UNDOING) and (due or 0) > 0:
        return f"due in {span(due)}"
    return "-"
