"""Waiting for a condition that nobody can notify of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

BETWEEN = 0.02
"""Seconds from one look to the next."""

STRIDE = 1.0
"""Seconds that one look counts for at most, however long it took: a machine that stands still for half a minute, as
busy ones do, has not waited for half a minute."""


def wait_for(condition: Callable[[], T], seconds: float = 60, what: str | None = None) -> T:
    """Wait until `condition` returns something true, and return that; fail after `seconds`, naming what was awaited.

    Args:
        condition: asked again and again.
        seconds: how long, by looks of `STRIDE` seconds at most.
        what: the condition's name in what the failure says.

    Raises:
        AssertionError: it has not come true.
    """
    left, looked = seconds, time.monotonic()
    while not (found := condition()):
        if left <= 0:
            raise AssertionError(f"waited {seconds:g} s in vain for {what or condition}")
        threading.Event().wait(BETWEEN)
        now = time.monotonic()
        left, looked = left - min(now - looked, STRIDE), now
    return found
