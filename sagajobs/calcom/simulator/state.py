"""Everything a running simulator knows, and the way back to the start."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sagajobs.calcom.simulator.faults import Faults
from sagajobs.calcom.simulator.ledger import Event, Ledger
from sagajobs.calcom.simulator.switches import Switches
from sagajobs.calcom.simulator.world import World, default_world

if TYPE_CHECKING:
    from collections.abc import Collection

_REQUESTS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One call of the API, as the simulator saw it; `status` is None where no answer was sent."""

    request_id: str
    operation: str
    method: str
    path: str
    version: str | None
    fault: str | None
    status: int | None


class State:
    """World, ledger, faults, switches and the latest requests.

    Args:
        api_keys: the tokens that are accepted.
    """

    def __init__(self, api_keys: Collection[str]) -> None:
        self.api_keys = frozenset(api_keys)
        self.reset()

    def reset(self, world: World | None = None, switches: Switches | None = None) -> None:
        """Forget everything and begin with this world, or the default one."""
        self.world = world or default_world()
        self.switches = switches or Switches()
        self.ledger = Ledger()
        self.faults = Faults()
        self.requests: deque[RequestRecord] = deque(maxlen=_REQUESTS_KEPT)

    @property
    def now(self) -> datetime:
        """The simulated time of day, in whole milliseconds of UTC."""
        now = datetime.now(UTC) + timedelta(seconds=self.switches.clock_offset_seconds)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    @property
    def lag(self) -> float:
        """Seconds that the read replica is behind."""
        return self.switches.lag_ms / 1000

    def event(self, what: str, request_id: str) -> Event:
        """Return an entry for a booking's history."""
        return Event(what, self.now, request_id)
