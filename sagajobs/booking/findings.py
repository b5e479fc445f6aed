"""What reconciling has found and left to a person, and a person's word that it is settled.

A finding is a row of the audit log, written anew each day for as long as it still is so: hence nobody need settle one
that has gone by itself, and one that was settled in error comes back.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from sagajobs.booking.alerts import AGAIN_AFTER, taking_turns
from sagajobs.errors import InvalidInput
from sagajobs.saga.audit import put_on_record
from sagajobs.saga.database import Database
from sagajobs.saga.operator import signed

log = logging.getLogger("saga")

ORPHAN = "reconcile.orphan"
MISSING = "reconcile.missing"
OUT_OF_STEP = "reconcile.out_of_step"
SETTLED = "reconcile.settled"


class Kind(NamedTuple):
    """What a finding may be: one of it, more of it, and what a person does about it."""

    one: str
    more: str
    remedy: str


KINDS = {
    ORPHAN: Kind(
        "booking at Cal.com that no appointment has",
        "bookings at Cal.com that no appointment has",
        "see at Cal.com whether somebody expects it, and cancel it there, or leave it",
    ),
    MISSING: Kind(
        "appointment whose booking Cal.com does not know",
        "appointments whose bookings Cal.com does not know",
        "see whether SAGAJOBS_CALCOM_API_KEY is of the account that it was made with",
    ),
    OUT_OF_STEP: Kind(
        "appointment that no saga brings into step any more",
        "appointments that no saga brings into step any more",
        "see what its last saga came to, and book, move or cancel the appointment",
    ),
}
"""By the action on the audit log."""


def word(what: str) -> str:
    """Return one of `KINDS` as JSON and labels call it."""
    return what.partition(".")[2]


STANDS = 2 * AGAIN_AFTER
"""Hours for which one that is not found again counts as open: a round of reconciling comes between."""

_OPEN = f"""
    SELECT f.id AS number, f.at, f.action, f.entity, f.entity_id, f.saga_id::text AS saga_id, f.detail ->> 'uid' AS uid,
        coalesce(a.starts_at, CAST(f.detail ->> 'starts_at' AS timestamptz)) AS starts_at
    FROM audit_log f LEFT JOIN appointments a ON f.entity = 'appointment' AND a.id = f.entity_id
    WHERE f.action LIKE 'reconcile.%' AND f.action <> '{SETTLED}'
        AND f.at > saga_now() - make_interval(hours => {STANDS})
        AND NOT EXISTS (
            SELECT FROM audit_log later WHERE later.entity = f.entity AND later.entity_id = f.entity_id
                AND later.id > f.id
                AND (later.action = f.action OR later.action = '{SETTLED}' AND later.detail ->> 'what' = f.action))
"""  # noqa: S608 - no value in it but our own words
"""The newest row of each thing that was found, unless it was settled since.

The partial index `ix_audit_log_findings` has the few such rows; the database uses it where the condition is put in the
index's own words.
"""

_LIST = text(f"{_OPEN} ORDER BY starts_at NULLS LAST, f.id LIMIT :limit")

_COUNT = text(f"SELECT action, count(*) AS n FROM ({_OPEN}) open GROUP BY action")  # noqa: S608 - likewise

_ONE = text(f"SELECT * FROM ({_OPEN}) open WHERE number = :number")  # noqa: S608 - likewise

_SETTLED_BY = text(f"""
    SELECT s.actor, s.at FROM audit_log f JOIN audit_log s ON s.entity = f.entity AND s.entity_id = f.entity_id
        AND s.action = '{SETTLED}' AND s.detail ->> 'what' = f.action AND s.id > f.id
    WHERE f.id = :number ORDER BY s.id LIMIT 1
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that reconciling has left to a person.

    Attributes:
        number: by which it is settled.
        at: when it was last found.
        what: which of `KINDS`.
        entity, entity_id: what it is about, a booking of Cal.com's by its number, or an appointment.
        saga_id: the saga that knows more, if one does.
        uid: of the booking, if there is one; whoever knows it can cancel the booking (SPEC G7).
        starts_at: of the appointment or the booking, if it is known.
    """

    number: int
    at: datetime
    what: str
    entity: str
    entity_id: int
    saga_id: str | None
    uid: str | None
    starts_at: datetime | None

    @property
    def about(self) -> str:
        """What it is about, in two words."""
        return f"{'booking' if self.entity == 'calcom_booking' else self.entity} {self.entity_id}"

    @property
    def kind(self) -> Kind:
        """What that means, and what a person does about it."""
        return KINDS[self.what]


def findings(connection: Connection, limit: int) -> list[Finding]:
    """Return what waits for a person, what starts next first, so many at most."""
    return [_finding(row) for row in connection.execute(_LIST, {"limit": limit})]


def count_findings(connection: Connection) -> dict[str, int]:
    """Return how many of each of `KINDS` wait for a person."""
    return dict.fromkeys(KINDS, 0) | {row.action: row.n for row in connection.execute(_COUNT)}


def open_finding(connection: Connection, number: int) -> Finding:
    """Return one that waits for a person; raises `InvalidInput` if there is none of that number, or not any more."""
    row = connection.execute(_ONE, {"number": number}).first()
    if row is not None:
        return _finding(row)
    settled = connection.execute(_SETTLED_BY, {"number": number}).first()
    if settled is not None:
        raise InvalidInput(f"finding {number} was settled by {settled.actor} at {settled.at:%Y-%m-%d %H:%M} UTC")
    raise InvalidInput(f"there is no open finding {number}; `sagajobs findings list` has those that there are")


def _finding(row: Row[Any]) -> Finding:
    return Finding(row.number, row.at, row.action, row.entity, row.entity_id, row.saga_id, row.uid, row.starts_at)


def settle_finding(database: Database, number: int, *, who: str, why: str) -> Finding:
    """Put on record that a person has taken care of it; found again tomorrow, it is open again.

    Args:
        database: where it is.
        number: of the finding.
        who: has taken care.
        why: what was done about it.

    Raises:
        InvalidInput: there is no such finding, or somebody has settled it; or it is not said who or why.
    """
    by = signed(who, why)
    with database.transaction() as connection:
        taking_turns(connection, open_finding(connection, number).entity_id)
        found = open_finding(connection, number)  # not settled by another one meanwhile
        put_on_record(
            connection,
            by,
            SETTLED,
            entity=found.entity,
            entity_id=found.entity_id,
            saga_id=found.saga_id,
            what=found.what,
        )
    log.warning("finding %d (%s) settled by %s", number, found.about, by.who)
    return found
