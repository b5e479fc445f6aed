"""The siege: who strikes what, how often, and what each blow takes with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil
import redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from sagajobs.saga.presence import process_id
from sagajobs.testing.simulator import Simulator
from tests.chaos.garrison import Garrison

PAUSE = 2.0
"""Seconds between two blows, on average."""

FROZEN = 12.0
"""Seconds for which a worker is frozen: longer than any lease of the booking sagas under these settings."""

OUTAGE = 8.0
LAG = 6.0
"""Seconds for which Cal.com is away, or its replica behind."""

_CLAIMED = text("""
    SELECT s.saga_id::text AS saga_id, s.owner FROM saga_steps s JOIN sagas g ON g.id = s.saga_id
    WHERE g.next_at IS NOT NULL AND s.lease_until > saga_now()
""")


Strike = Callable[[dict[int, list[str]]], Iterable[int] | None]
"""Takes the sagas in work by process; returns the processes that died of it, None if it could not fall."""


@dataclass(frozen=True, kw_only=True)
class Blow:
    """One blow.

    Attributes:
        what: its kind.
        when: seconds since the epoch.
        hit: ids of the sagas whose step was claimed by a process that it killed.
    """

    what: str
    when: float
    hit: tuple[str, ...] = ()


@dataclass
class Siege:
    """Strikes until its time is over, then lets everything heal.

    Args:
        garrison: the workers.
        engine: tells what is in work.
        simulator: Cal.com.
        home: folder of the embedded servers.
        wipe: empties the broker.
        embedded: names of the servers that may be killed: `postgres`, and `redis` if it is ours.
        dice: deals the blows.
    """

    garrison: Garrison
    engine: Any
    simulator: Simulator
    home: Path
    wipe: Callable[[], None]
    embedded: tuple[str, ...]
    dice: Random
    blows: list[Blow] = field(default_factory=list)
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def lay(self, seconds: float, progress: Callable[[float, str], None]) -> None:
        """Strike for so many seconds; `progress` hears of each blow."""
        kinds = self._kinds()
        self._heal()
        began = time.monotonic()
        pause = threading.Event()
        while (passed := time.monotonic() - began) < seconds:
            self._undo_what_is_over()
            name = self.dice.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]
            when = time.time()
            claims = self._claims()
            gone = kinds[name][1](claims)
            if gone is not None:
                hit = tuple(saga_id for pid in gone for saga_id in claims.get(pid, ()))
                self.blows.append(Blow(what=name, when=when, hit=hit))
                progress(passed, name)
            pause.wait(self.dice.expovariate(1 / PAUSE))
        while self._later:
            self._undo_what_is_over()
            pause.wait(0.1)
        self.simulator.heal()
        self.simulator.switch(lag_ms=0)

    def _kinds(self) -> dict[str, tuple[float, Strike]]:
        """Return each kind of blow with its weight."""
        kinds: dict[str, tuple[float, Strike]] = {
            "a child is killed": (24, self.garrison.kill_child),
            "a worker is killed": (14, self.garrison.kill_worker),
            "a worker is frozen": (7, lambda _: self._freeze()),
            "a beat is killed": (3, lambda _: self.garrison.kill_beat()),
            "the broker is wiped": (6, lambda _: self._wipe()),
            "Cal.com books and times out": (8, lambda _: self._fault("create", "timeout", "after", 4)),
            "Cal.com acts and drops": (8, lambda _: self._fault("any", "drop", "after", 6)),
            "Cal.com errs": (5, lambda _: self._fault("any", "http_500", "before", 5)),
            "Cal.com answers nonsense": (3, lambda _: self._fault("any", "malformed", "after", 3)),
            "Cal.com throttles": (4, lambda _: self._fault("any", "rate_limit", "before", 3, seconds=2)),
            "Cal.com is slow": (4, lambda _: self._fault("create", "slow", "after", 5, seconds=0.8)),
            "Cal.com is away": (3, lambda _: self._outage()),
            "Cal.com's replica lags": (5, lambda _: self._lag()),
        }
        for server in self.embedded:
            for how, what in ((signal.SIGTERM, "restarted"), (signal.SIGKILL, "killed")):
                signum = signal.SIGINT if server == "postgres" and how is signal.SIGTERM else how
                kinds[f"{server} is {what}"] = (
                    2.5,
                    lambda _, server=server, signum=signum: self._strike(server, signum),
                )
        return kinds

    def _claims(self) -> dict[int, list[str]]:
        """Return the sagas of which a step is claimed, by process."""
        found: dict[int, list[str]] = {}
        with contextlib.suppress(DBAPIError), self.engine.database.reading() as connection:  # it may be down itself
            for row in connection.execute(_CLAIMED):
                found.setdefault(process_id(row.owner), []).append(row.saga_id)
        return found

    def _undo_what_is_over(self) -> None:
        now = time.monotonic()
        over = [act for due, act in self._later if due <= now]
        self._later = [(due, act) for due, act in self._later if due > now]
        for act in over:
            act()

    def _after(self, seconds: float, act: Callable[[], None]) -> tuple[()]:
        self._later.append((time.monotonic() + seconds, act))
        return ()

    def _freeze(self) -> tuple[()] | None:
        group = self.garrison.freeze()
        return None if group is None else self._after(FROZEN, lambda: self.garrison.thaw(group))

    def _wipe(self) -> tuple[()] | None:
        try:
            self.wipe()
        except (redis.RedisError, OSError):
            return None  # it is away itself
        return ()

    def _fault(self, operation: str, kind: str, when: str, count: int, **how: Any) -> tuple[()]:
        self.simulator.fault(operation, kind, when, count=count, **how)
        return ()

    def _outage(self) -> tuple[()]:
        self.simulator.fault("any", "http_503", "before", probability=1.0)
        return self._after(OUTAGE, self._heal)

    def _heal(self) -> None:
        """End every fault but the time that Cal.com takes as it is: workers are to be hit in the middle of a call."""
        self.simulator.heal()
        self.simulator.fault("any", "slow", "after", probability=0.3, seconds=0.25)

    def _lag(self) -> tuple[()]:
        self.simulator.switch(lag_ms=1500)
        return self._after(LAG, lambda: self.simulator.switch(lag_ms=0))

    def _strike(self, server: str, signum: int) -> tuple[()] | None:
        """End a server; its keeper starts it again with the same data."""
        try:
            pid = json.loads((self.home / server / "server.json").read_text())["pid"]
            psutil.Process(pid)
            os.kill(pid, signum)
        except (OSError, KeyError, TypeError, ValueError, psutil.NoSuchProcess):
            return None  # it is on its way back from the last blow
        return ()
