"""The one quota of calls that all workers with one API key share.

Cal.com API v2 takes 120 calls a minute from a key and blocks it for 60 s when it sees more; frequent overruns got
accounts locked. So calls are counted here first, in a moving window in Redis, and one for which nothing is left is
put off before it is sent.

The window is longer than the server's. A call is counted here when it may go, and there when it arrives, which takes
anything from nothing to the connect time-out and a bit. Two calls that are 60 s apart here may be closer there by
that much; so the window is 60 s and the longest such delay. No 60 s of the server's, wherever it lets them begin, then
hold more calls than the window does. (What no window can help against, a worker that freezes between counting and
sending, the server's own 429 catches.)
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limits.storage import RedisStorage

from sagajobs.calcom.errors import CalcomQuotaSpent
from sagajobs.calcom.priority import Priority

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from sagajobs.calcom.operations import Operation
    from sagajobs.calcom.shared import Shared

SERVER_WINDOW = 60.0  # Cal.com API v2: its limits are per 60 s

SKEW = 2.0
"""Seconds that the clocks of two workers' machines may differ by, and a worker may take to get a call on its way."""

SHARES: Mapping[Priority, int] = {Priority.UNDO: 100, Priority.NEAR: 90, Priority.FAR: 80}
"""Per cent of the window that may be full when a call of a priority joins it.

What is kept back from a priority is for those above it: an undo or a probe is two or three calls, so 10 per cent of
120 bring some five sagas a minute back to a known state however many bookings wait, and as much again keeps a handful
of today's appointments from waiting behind next month's.
"""

SPREADS: Mapping[Priority, tuple[float, float]] = {
    Priority.UNDO: (0.0, 1.0),
    Priority.NEAR: (0.5, 3.0),
    Priority.FAR: (3.0, 12.0),
}
"""Seconds, least and most, that chance adds to a wait: who waited together must not come back together, and the more
urgent ones come back first."""

_NEXT_IN_LINE = """
local place = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1]))
if place > tonumber(ARGV[2]) then return nil end
redis.call('SET', KEYS[1], string.format('%.3f', place + tonumber(ARGV[3])), 'PX', ARGV[4])
return string.format('%.3f', place)
"""
"""Take the next moment of a line that begins at ARGV[1] at the earliest and moves on by ARGV[3] seconds, unless that is
after ARGV[2]. A thousand that wait and come back whenever one place is free would ask a thousand times a place."""

_SOON = 0.05
"""Seconds until the next look where a place became free between two looks."""


@dataclass(frozen=True, slots=True)
class QuotaSnapshot:
    """How the quota stands.

    Attributes:
        per_minute: the limit.
        window: seconds that a call counts for.
        used: calls in the window.
        left: by priority, how many calls could go now; 0 while Cal.com blocks the key.
        blocked_for: seconds for which Cal.com blocks the key, or 0.
    """

    per_minute: int
    window: int
    used: int
    left: Mapping[Priority, int]
    blocked_for: float


class Quota:
    """Counts the calls of all workers with one API key.

    Args:
        shared: where they are counted; while Redis is away, nothing is counted and nobody is stopped.
        per_minute: calls that the server takes in 60 s.
        delay: seconds that a call may take from here to the server's counter: the connect time-out.
        server_window: seconds over which the server counts.
    """

    def __init__(self, shared: Shared, per_minute: int, *, delay: float, server_window: float = SERVER_WINDOW) -> None:
        self._shared = shared
        self._per_minute = per_minute
        self._window = math.ceil(server_window + delay + SKEW)

    def take(self, operation: Operation, priority: Priority) -> None:
        """Count a call that is about to be sent.

        Raises:
            CalcomQuotaSpent: nothing is left for calls of this priority, or Cal.com blocks the key; `retry_after`
                is the time until something may be left, and a bit of chance.
        """
        wait = self._shared.ask(lambda client: self._wait(client, operation, priority), 0.0)
        if wait > 0:
            raise CalcomQuotaSpent(
                f"{operation}: not sent, the quota for {priority} calls is used up",
                retry_after=wait + _spread(priority),
            )

    def hold(self, operation: Operation, priority: Priority) -> float:
        """Return the seconds until something may be left for a call, and a bit of chance, or 0; takes nothing.

        Who is told to wait is counted with those who wait already: the more they are, the later to come back, within
        one window. No place is kept for anybody.
        """
        wait = self._shared.ask(lambda client: self._turn(client, operation, priority), 0.0)
        return wait + _spread(priority) if wait > 0 else 0.0

    def block(self, operation: Operation, seconds: float) -> None:
        """Stop the calls of all workers, as Cal.com has answered with a 429.

        Args:
            operation: what was refused; one that has a limit of its own is stopped alone.
            seconds: how long Cal.com says that it will refuse.
        """
        name = self._block_of(operation)
        milliseconds = math.ceil(seconds * 1000)

        def lengthen(client: redis.Redis) -> None:
            # Never shortened: a call that was under way tells the rest of a block, a default the whole of it.
            if client.pttl(name) < milliseconds:
                client.set(name, 1, px=milliseconds)

        self._shared.ask(lengthen, None)

    def left(self, priority: Priority) -> int | None:
        """Return how many calls of a priority could go now, or None while Redis is away."""
        snapshot = self.snapshot()
        return None if snapshot is None else snapshot.left[priority]

    def snapshot(self) -> QuotaSnapshot | None:
        """Return how the quota stands, or None while Redis is away."""
        return self._shared.ask(self._snapshot, None)

    def _snapshot(self, client: redis.Redis) -> QuotaSnapshot:
        used = self._storage(client).get_moving_window(self._calls, self._per_minute, self._window)[1]
        blocked_for = max(client.pttl(self._shared.name("quota", "blocked")), 0) / 1000
        left = {one: 0 if blocked_for else max(self._share(one) - used, 0) for one in Priority}
        return QuotaSnapshot(self._per_minute, self._window, used, left, blocked_for)

    def _share(self, priority: Priority) -> int:
        # Never none at all: a quota of one call a minute is still one for everybody.
        return max(self._per_minute * SHARES[priority] // 100, 1)

    def _wait(self, client: redis.Redis, operation: Operation, priority: Priority) -> float:
        """Take a place in the window and return 0, or return the seconds until one may be free."""
        # Looked at first, so that a full window of the operation's own costs no place in the one of all.
        if (wait := self._turn(client, operation, priority)) > 0:
            return wait
        storage = self._storage(client)
        # One list for all priorities. `limits` cuts it to the limit asked for when a place is taken, which loses
        # nothing that counts: a place is only given if fewer than that many calls are in the window.
        if not storage.acquire_entry(self._calls, self._share(priority), self._window):
            return _SOON  # taken by another call since the look
        own = self._own_calls(operation)
        if operation.per_minute is not None and not storage.acquire_entry(own, operation.per_minute, self._window):
            return _SOON
        return 0.0

    def _turn(self, client: redis.Redis, operation: Operation, priority: Priority) -> float:
        """Return the seconds until a call has its turn, among those that wait for the same, or 0."""
        storage = self._storage(client)
        limits = [(self._calls, self._share(priority))]
        if operation.per_minute is not None:
            limits.append((self._own_calls(operation), operation.per_minute))
        wait, calls, limit = max((self._until_free(storage, *one), *one) for one in limits)
        names = {self._shared.name("quota", "blocked"), self._block_of(operation)}
        wait = max(wait, *(client.pttl(name) / 1000 for name in names))
        if wait <= 0:
            return 0.0
        earliest, pace = time.time() + wait, self._window / limit
        latest = earliest + self._window
        in_line = client.register_script(_NEXT_IN_LINE)
        expires = math.ceil((wait + 2 * self._window + pace) * 1000)
        place = in_line([self._shared.name(calls, "line", priority)], [earliest, latest, pace, expires])
        if place is None:  # as many wait as a window takes
            return wait + random.uniform(0, self._window)  # noqa: S311 - spread, not secrecy
        return max(float(place) - time.time(), _SOON)

    def _until_free(self, storage: RedisStorage, calls: str, limit: int) -> float:
        oldest, used = storage.get_moving_window(calls, limit, self._window)
        return 0.0 if used < limit else max(oldest + self._window - time.time(), _SOON)

    def _storage(self, client: redis.Redis) -> RedisStorage:
        return RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix=self._shared.prefix)

    @property
    def _calls(self) -> str:
        return "quota:calls"

    def _own_calls(self, operation: Operation) -> str:
        return f"quota:calls:{_word(operation)}"

    def _block_of(self, operation: Operation) -> str:
        if operation.per_minute is None:
            return self._shared.name("quota", "blocked")
        return self._shared.name("quota", "blocked", _word(operation))


def _spread(priority: Priority) -> float:
    return random.uniform(*SPREADS[priority])  # noqa: S311 - spread, not secrecy


def _word(operation: Operation) -> str:
    """Return the last word of a path, by which Cal.com names its limits as well."""
    return operation.path.rpartition("/")[2]
