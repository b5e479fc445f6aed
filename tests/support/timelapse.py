"""Cal.com's minute in some seconds: the constants of the quota shortened alike, so that all stays in proportion."""

from __future__ import annotations

import functools
from collections.abc import Callable

from sagajobs import root
from sagajobs.calcom import quota, shared

SPEED = 15.0

MINUTE = quota.SERVER_WINDOW / SPEED
"""Seconds: long beside a call, and a whole number, as the quota's windows are."""


def shorten(set_attribute: Callable[[object, str, object], object] = setattr) -> None:
    """Have the application keep its quota over the shorter minute; to be called before it has made one.

    It waits for Redis for as long as that takes: on a machine that stands still it would go on without a quota. The
    other side's must be as short: `simulator.limit(calls, window=MINUTE)`.
    """
    set_attribute(root, "Quota", functools.partial(quota.Quota, server_window=MINUTE))
    set_attribute(quota, "SKEW", quota.SKEW / SPEED)
    set_attribute(shared, "TIMEOUT", 60.0)
    spreads = {priority: (least / SPEED, most / SPEED) for priority, (least, most) in quota.SPREADS.items()}
    set_attribute(quota, "SPREADS", spreads)


def fullest(calls: list[dict]) -> int:
    """Return how many calls the fullest such minute holds, wherever it begins."""
    times = sorted(call["at"] for call in calls)
    return max(sum(at < first + MINUTE for at in times[n:]) for n, first in enumerate(times))
