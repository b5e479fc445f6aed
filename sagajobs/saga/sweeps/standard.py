"""The engine's own sweeps, and how often each comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagajobs.saga.sweep import recover
from sagajobs.saga.sweeps.purge import purging
from sagajobs.saga.sweeps.review import review
from sagajobs.saga.sweeps.sweep import Sweep, Swept
from sagajobs.saga.totals import add_up

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

RECOVER = "recover"

REVIEW_EVERY = 10.0
"""Seconds between two sweeps over the review cases: what they wait for is measured in minutes."""

PURGE_EVERY = 3600.0
"""Seconds between two purges: retention is measured in days."""

TOTALS_EVERY = 10.0
"""Seconds between two additions: what has ended since the last one is added up anew by whoever reads the totals."""

TOTALS_BUDGET = 60.0
"""Seconds after which one addition leaves the rest to the next."""


def engine_sweeps(*, interval: float, retention_days: int) -> tuple[Sweep, ...]:
    """Return the sweeps that any engine needs.

    Args:
        interval: seconds between two recoveries.
        retention_days: days after which an ended saga is deleted, 0 to keep all.
    """
    return (
        Sweep(name=RECOVER, body=_recover, every=interval, what="sagas hinted at", publishes=True),
        Sweep(name="review", body=review, every=REVIEW_EVERY, what="cases looked at or alerted about", publishes=True),
        Sweep(name="purge", body=purging(retention_days), every=PURGE_EVERY, what="sagas deleted"),
        Sweep(name="totals", body=_add_up, every=TOTALS_EVERY, what="ended sagas added up"),
    )


def _recover(engine: Engine, _cursor: Any) -> Swept:
    return Swept(recover(engine))


def _add_up(engine: Engine, _cursor: Any) -> Swept:
    return Swept(add_up(engine.database, budget=TOTALS_BUDGET))
