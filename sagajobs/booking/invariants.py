"""The seed's three invariants, as queries: at rest, with no saga in flight, each returns no row.

The seed's third query leaves out the statuses `pending` and `failed` and the sync status `cancelled`, which its first
two use; the union of all three is meant, and stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from sagajobs.booking.schema import STATUSES, SYNC_STATUSES


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that must be true of all appointments.

    Attributes:
        number: the seed's number for it.
        name: what it forbids.
        where: SQL condition, over `appointments`, of the rows that break it.
    """

    number: int
    name: str
    where: str


INVARIANTS = (
    Invariant(
        1,
        "no orphaned Cal.com bookings",
        "calcom_v2_booking_id IS NOT NULL AND deleted_at IS NOT NULL AND calcom_sync_status <> 'cancelled'",
    ),
    Invariant(
        2,
        "no orphaned local appointments",
        "calcom_v2_booking_id IS NULL AND status NOT IN ('pending', 'failed')",
    ),
    Invariant(
        3,
        "only known statuses",
        f"status NOT IN {STATUSES} OR calcom_sync_status NOT IN {SYNC_STATUSES}",
    ),
)


@dataclass(frozen=True, slots=True)
class Violation:
    """How many rows break an invariant, and the ids of some of them."""

    invariant: Invariant
    rows: int
    examples: tuple[int, ...]


def check(connection: Connection) -> list[Violation]:
    """Return, for each invariant in order, how many rows break it (0: it holds)."""
    found = []
    for invariant in INVARIANTS:
        counted = "SELECT count(*) AS rows, (array_agg(id ORDER BY id))[1:10] AS examples FROM appointments WHERE "
        row = connection.execute(text(counted + invariant.where)).one()  # constants of this module
        found.append(Violation(invariant, row.rows, tuple(row.examples or ())))
    return found
