"""Everything a running simulator knows, and the way back to the start."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator.deliveries import Deliveries, new_client
from sagajobs.calcom.simulator.faults import Faults
from sagajobs.calcom.simulator.ledger import Ledger
from sagajobs.calcom.simulator.limits import Limiter
from sagajobs.calcom.simulator.slots import Reservations
from sagajobs.calcom.simulator.switches import Switches
from sagajobs.calcom.simulator.webhooks import Webhooks
from sagajobs.calcom.simulator.world import World, default_world

if TYPE_CHECKING:
    from collections.abc import Collection

    from tornado.httpclient import AsyncHTTPClient

_REQUESTS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One call of the API, as the simulator saw it.

    `at` is the real time of its arrival in seconds since 1970; `status` is None where no answer was sent.
    """

    at: float
    request_id: str
    operation: str
    method: str
    path: str
    version: str | None
    fault: str | None
    status: int | None


class State:
    """World, ledger, reservations, webhooks, faults, switches, the latest requests and the count of all.

    `resets` says how often it has begun anew: a call under way that finds it changed is of a world that is gone.

    Args:
        api_keys: the tokens that are accepted.
    """

    def __init__(self, api_keys: Collection[str]) -> None:
        self.api_keys = frozenset(api_keys)
        self._http: AsyncHTTPClient | None = None
        self.resets = 0
        self._begin(default_world(), Switches())

    def reset(self, world: World | None = None, switches: Switches | None = None) -> None:
        """Forget everything and begin with this world, or the default one."""
        self.deliveries.close()
        self.resets += 1
        self._begin(world or default_world(), switches or Switches())

    def _begin(self, world: World, switches: Switches) -> None:
        self.world = world
        self._stopped_at: float | None = None
        self.switch(switches)
        self.ledger = Ledger()
        self.reservations = Reservations()
        self.webhooks = Webhooks()
        self.deliveries = Deliveries(self)
        self.faults = Faults()
        self.limiter = Limiter()
        self.requests: deque[RequestRecord] = deque(maxlen=_REQUESTS_KEPT)
        self.counts: Counter[tuple[str, int | None]] = Counter()

    def switch(self, switches: Switches) -> None:
        """Behave like this from now on."""
        self.switches = switches
        if not switches.replica_stopped:
            self._stopped_at = None
        elif self._stopped_at is None:
            self._stopped_at = time.monotonic()

    def record(self, call: RequestRecord) -> None:
        """Keep and count one call of the API."""
        self.requests.append(call)
        self.counts[call.operation, call.status] += 1

    @property
    def http(self) -> AsyncHTTPClient:
        """What sends webhooks; made when it is first needed, because it needs the event loop."""
        if self._http is None:
            self._http = new_client()
        return self._http

    def administers(self, uid: str) -> bool:
        """Tell whether the owner of the API keys has rights on a booking; on one that does not exist he has none."""
        row = self.ledger.get(uid)
        event_type = self.world.event_type(row.event_type_id) if row else None
        return event_type is not None and not event_type.foreign

    @property
    def now(self) -> datetime:
        """The simulated time of day, in whole milliseconds of UTC."""
        now = datetime.now(UTC) + timedelta(seconds=self.switches.clock_offset_seconds)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    @property
    def lag(self) -> float:
        """Seconds that the read replica is behind."""
        stopped_for = 0.0 if self._stopped_at is None else time.monotonic() - self._stopped_at
        return max(self.switches.lag_ms / 1000, stopped_for)
