"""Locks: what a saga works on is its own until it has ended (SPEC G6).

A lock is a row, not a transaction's: it is held across steps, workers and restarts. Both functions below are SQL
functions (migrations 0002, 0007), because each of their statements must see what was committed before it: a single
statement would decide from a snapshot older than the turn that it has waited for. They take turns per resource, behind
an advisory lock, in the order of the resources' names, so that nobody waits for another one in a circle; the unique
index on what is held lets nobody be the second. Nothing expires, as that could let two in: a holder whose saga has
ended does not count, and one whose worker has died is brought to its end by the sweep.

Whoever lets go hands the lock to the first in line, in the same transaction, and tells him after the commit. Should
that word be lost, he looks again by himself every `LOOK_AGAIN` seconds. That he had to wait, and for how long, is a
line of his history (`ACQUIRED`), written where he gets the lock; who gets it at once costs nothing (migration 0007).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, text

LOOK_AGAIN = 5.0
"""Seconds after which a saga that waits for a lock looks by itself, should the word that it has it be lost."""

ACQUIRED = "lock_acquired"
"""The event in the history of a saga that got a lock it had been in line for; its detail has `waited_ms`.

It is no lifecycle event: neither log nor outbox has it.
"""

TAKE = text("SELECT missing, over FROM saga_take_locks(CAST(:id AS uuid), CAST(:wanted AS text[]), :patience)")
"""Take locks in the order of their names, or get in line for the first that is not free. No row: all are held."""

RELEASE = text("""
    SELECT DISTINCT g.id, g.name, g.stage FROM saga_release_locks(CAST(:id AS uuid)) AS next JOIN sagas g ON g.id = next
""")
"""Let go of every lock of a saga; the sagas that have one of them now."""


TURNS = text("""
    SELECT pg_advisory_xact_lock(4300, hashtext(l.resource))
    FROM (SELECT resource FROM saga_locks WHERE saga_id = CAST(:id AS uuid) ORDER BY resource) l
""")
"""Take the turns of all that a saga holds or waits for, before its row is locked: whoever takes a lock comes to the
saga's row last, too."""


class Missing(NamedTuple):
    """A lock that is not free: its name, and whether the time to wait for it is over."""

    resource: str
    over: bool


class Successor(NamedTuple):
    """A saga that was handed a lock and should look again: its id, its kind, and the stage at which it waits."""

    saga_id: str
    name: str
    stage: int


def take_locks(connection: Connection, saga_id: str, wanted: Iterable[str], patience: float) -> Missing | None:
    """Take locks for a saga, or get in line.

    Args:
        connection: in the transaction whose commit makes it so.
        saga_id: whose.
        wanted: names of the resources.
        patience: seconds for which it will wait, counted from when it got in line.

    Returns:
        None if it holds them all, else the first one that it must wait for; it keeps what it has got meanwhile.
    """
    row = connection.execute(TAKE, {"id": saga_id, "wanted": sorted(set(wanted)), "patience": patience}).first()
    return None if row is None else Missing(row.missing, row.over)


def take_turns(connection: Connection, saga_id: str) -> None:
    """Wait until nobody is about to take or to hand on any lock that a saga holds or waits for."""
    connection.execute(TURNS, {"id": saga_id})


def release_locks(connection: Connection, saga_id: str) -> list[Successor]:
    """Let go of a saga's locks and of its places in line; return who is to be told after the commit."""
    return [Successor(str(row.id), row.name, row.stage) for row in connection.execute(RELEASE, {"id": saga_id})]
