"""The verdict: what became of everything, read of the database and of Cal.com's ledger, never of what was planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from sagajobs.booking import invariants
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.testing.simulator import STANDING
from tests.chaos.siege import Blow

_STARTED = text("SELECT idempotency_key AS key FROM sagas WHERE idempotency_key IS NOT NULL")
_STATES = text("SELECT name, state, count(*) AS n FROM sagas GROUP BY 1, 2 ORDER BY 1, 2")
_IN_FLIGHT = text("SELECT count(*) FROM sagas WHERE next_at IS NOT NULL")
_HELD = text("""
    SELECT count(*) FROM saga_locks l JOIN sagas g ON g.id = l.saga_id
    WHERE g.ended_at IS NOT NULL
""")
_UNASKED = text("""
    SELECT count(*) FROM sagas g WHERE state = 'manual_review_required' AND ended_at IS NULL AND NOT EXISTS (
        SELECT FROM review_cases r WHERE r.saga_id = g.id AND r.closed_at IS NULL AND r.reason <> '')
""")
_CASES = text("SELECT reason, count(*) AS n FROM review_cases WHERE closed_at IS NULL GROUP BY 1 ORDER BY 2 DESC")
_LIVE = text("""
    SELECT a.calcom_v2_booking_id FROM appointments a
    WHERE a.deleted_at IS NULL AND a.status NOT IN ('cancelled', 'failed') AND a.calcom_v2_booking_id IS NOT NULL
""")
_ASKED_ABOUT = text("""
    SELECT DISTINCT a.calcom_v2_booking_id AS uid, a.saga_id::text AS saga_id FROM appointments a
    WHERE a.calcom_sync_status IN ('manual_review_required', 'error')
""")
_OPEN_SAGAS = text("SELECT saga_id::text FROM review_cases WHERE closed_at IS NULL")
_EVENTS = text("SELECT event, count(*) AS n FROM saga_events GROUP BY 1 ORDER BY 1")
_NEXT = text("""
    SELECT extract(epoch FROM min(e.at)) FROM saga_events e
    WHERE e.saga_id = CAST(:id AS uuid) AND e.at > to_timestamp(:when)
""")
_PACE = text("SELECT extract(epoch FROM ended_at) FROM sagas WHERE ended_at IS NOT NULL")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of it all; everything in `wrong` must be 0.

    Attributes:
        wrong: by name, what must not be.
        states: sagas by kind and state.
        cases: open questions to a person, by reason.
        events: of the history.
        recoveries: for each saga hit by a death, seconds until the next line of its history.
        ends: when sagas came to their end, seconds since the epoch.
    """

    wrong: Mapping[str, int]
    states: Mapping[str, Mapping[str, int]]
    cases: Mapping[str, int]
    events: Mapping[str, int]
    recoveries: Sequence[float]
    ends: Sequence[float]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.wrong.values())


def judge(
    connection: Connection, ledger: Sequence[Mapping[str, Any]], keys: set[str], blows: Sequence[Blow]
) -> Verdict:
    """Judge.

    Args:
        connection: to the database, at rest.
        ledger: all bookings at Cal.com.
        keys: those under which a saga was started for certain.
        blows: all that fell.
    """
    states: dict[str, dict[str, int]] = {}
    for row in connection.execute(_STATES):
        states.setdefault(row.name, {})[row.state] = row.n
    recorded = set(connection.execute(_STARTED).scalars())
    asked_about = connection.execute(_ASKED_ABOUT).all()
    asked = {*connection.execute(_OPEN_SAGAS).scalars(), *(row.saga_id for row in asked_about)}
    excused = {row.uid for row in asked_about}
    ours = [booking for booking in ledger if METADATA_KEY in booking["metadata"]]
    makers = {booking["uid"]: _key(booking).partition("/")[0] for booking in ours if booking["status"] in STANDING}
    unasked = {uid for uid, saga_id in makers.items() if saga_id not in asked}
    live = set(connection.execute(_LIVE).scalars())
    # Cancelled or not: one that was made twice and taken back once was made twice. A move makes another, of its own.
    made = Counter(_key(booking) for booking in ours if not booking.get("rescheduledFromUid"))
    wrong = {
        "lost: a start that is not on record": len(keys - recorded),
        "lost: a saga that is not at rest": connection.execute(_IN_FLIGHT).scalar_one(),
        "orphans: a booking without its appointment": len(unasked - live - excused),
        "orphans: an appointment without its booking": len(live - makers.keys() - excused),
        "booked twice: bookings under one key": sum(n - 1 for n in made.values()),
        "invariant violations": sum(violation.rows for violation in invariants.check(connection)),
        "locks of sagas that have ended": connection.execute(_HELD).scalar_one(),
        "waiting for a person without a reason": connection.execute(_UNASKED).scalar_one(),
    }
    return Verdict(
        wrong=wrong,
        states=states,
        cases={row.reason: row.n for row in connection.execute(_CASES)},
        events={row.event: row.n for row in connection.execute(_EVENTS)},
        recoveries=sorted(_recoveries(connection, blows)),
        ends=[float(end) for end in connection.execute(_PACE).scalars()],
    )


def _key(booking: Mapping[str, Any]) -> str:
    return str(booking["metadata"][METADATA_KEY])


def _recoveries(connection: Connection, blows: Sequence[Blow]) -> list[float]:
    found = []
    for blow in blows:
        for saga_id in blow.hit:
            then = connection.execute(_NEXT, {"id": saga_id, "when": blow.when}).scalar()
            if then is not None:
                found.append(float(then) - blow.when)
    return found
