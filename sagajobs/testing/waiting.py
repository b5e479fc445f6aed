"""Waiting for a condition that nobody can notify of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float = 30, what: str | None = None) -> T:
    """Wait until `condition` returns something true, and return that; fail after `seconds`, naming what was awaited."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what or condition}")
        threading.Event().wait(0.02)
    return found
