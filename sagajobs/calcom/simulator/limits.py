"""The rate limits in front of the API: so many calls in a window, then a block."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator.replies import throttled

if TYPE_CHECKING:
    from sagajobs.calcom.simulator.replies import Refusal
    from sagajobs.calcom.simulator.switches import Switches

DEFAULT = "Default"
CUSTOM_LIMIT = 5
"""Calls in a window of an endpoint with a limit of its own: each of them sends mail."""


@dataclass(slots=True)
class _Window:
    """`ends` is when the calls are forgotten; going over the limit moves it, and that is the block."""

    ends: float
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the limiter says of one call: the headers for its reply, and the refusal if it is over the limit."""

    headers: dict[str, str]
    refusal: Refusal | None


class Limiter:
    """Counts the calls of each caller, and apart from those his calls of each endpoint with a limit of its own."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], _Window] = {}

    def count(self, caller: str, name: str | None, switches: Switches) -> Verdict:
        """Count one call.

        Args:
            caller: who is calling: a token, or an address.
            name: of the endpoint's own limit, which then counts instead of the general one.
            switches: with limit, window and block.
        """
        limit = CUSTOM_LIMIT if name else switches.rate_limit_per_minute
        suffix = name or DEFAULT
        now = time.monotonic()
        window = self._windows.get((caller, suffix))
        if window is None or now >= window.ends:
            window = self._windows[caller, suffix] = _Window(now + switches.rate_limit_window_seconds)
        window.calls += 1
        if window.calls == limit + 1:
            window.ends = now + switches.rate_limit_block_seconds
        headers = {
            f"X-RateLimit-Limit-{suffix}": str(limit),
            f"X-RateLimit-Remaining-{suffix}": str(max(0, limit - window.calls)),
            # Rounded first: of a window that has just begun, ceil would make a second more than it lasts.
            f"X-RateLimit-Reset-{suffix}": str(math.ceil(round(window.ends - now, 3))),
        }
        return Verdict(headers, throttled() if window.calls > limit else None)
