"""Counting what became of the sagas: from the database and from Cal.com's ledger, never from what was planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from sagajobs.booking import invariants
from sagajobs.booking.outside import METADATA_KEY, STANDING
from sagajobs.booking.schema import SLOT_FREE
from sagajobs.saga.states import UNFINISHED, SagaState

ALWAYS = (SagaState.COMPLETED, SagaState.COMPENSATED, SagaState.MANUAL_REVIEW_REQUIRED)
"""Outcomes that are named even if no saga has them."""

_SAGAS = text("SELECT id::text, name, state, error->>'step' AS step, error->>'class' AS error FROM sagas")

_LIVE = text(f"""
    SELECT calcom_v2_booking_id FROM appointments
    WHERE calcom_v2_booking_id IS NOT NULL AND deleted_at IS NULL AND status NOT IN {SLOT_FREE}
""")  # noqa: S608 - a constant of ours

_EVENTS = text("SELECT event, count(*) AS times FROM saga_events GROUP BY event")

_AT_REST = text("SELECT count(*) FROM sagas WHERE next_at IS NULL")
"""A saga that the sweep need not look at has ended, or waits for a person."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What became of the sagas.

    Attributes:
        sagas: how many there are.
        outcomes: how many are in which state.
        reasons: how many of which kind came to which state on account of which step and error.
        events: how often each lifecycle event is in the history.
        violations: of the invariants.
        stray: standing bookings with our key that no standing appointment names.
        missing: standing appointments whose booking does not stand.
        lost: sagas that were started and are not at rest.
    """

    sagas: int
    outcomes: Mapping[str, int]
    reasons: Mapping[tuple[str, str, str, str], int]
    events: Mapping[str, int]
    violations: Sequence[invariants.Violation]
    stray: int
    missing: int
    lost: int

    @property
    def orphans(self) -> int:
        """Bookings and appointments that lack their other half."""
        return self.stray + self.missing

    @property
    def violated(self) -> int:
        """Rows that break an invariant."""
        return sum(violation.rows for violation in self.violations)

    @property
    def in_order(self) -> bool:
        """Whether both sides agree and nothing was lost."""
        return not (self.violated or self.orphans or self.lost)


def at_rest(connection: Connection) -> int:
    """Return how many sagas have come to rest."""
    return int(connection.execute(_AT_REST).scalar_one())


def count(connection: Connection, ledger: Sequence[Mapping[str, Any]], started: Collection[str]) -> Tally:
    """Count.

    Args:
        connection: to the database.
        ledger: all bookings at Cal.com.
        started: ids of the sagas whose start was confirmed.
    """
    rows = connection.execute(_SAGAS).all()
    states = {row.id: SagaState(row.state) for row in rows}
    standing = {booking["uid"] for booking in ledger if booking["status"] in STANDING}
    ours = {booking["uid"] for booking in ledger if METADATA_KEY in booking["metadata"]}
    live = set(connection.scalars(_LIVE))
    found = Counter(states.values())
    return Tally(
        sagas=len(rows),
        outcomes={state: found[state] for state in (*ALWAYS, *(found.keys() - set(ALWAYS)))},
        reasons=Counter((row.name, row.state, row.step or "", row.error or "") for row in rows),
        events={row.event: row.times for row in connection.execute(_EVENTS)},
        violations=invariants.check(connection),
        stray=len((standing & ours) - live),
        missing=len(live - standing),
        lost=sum(states.get(saga_id, SagaState.PENDING) in UNFINISHED for saga_id in started),
    )
