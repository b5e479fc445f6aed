"""The wake: what a process that is gone has left behind is taken up at once, not when its leases run out.

Three things may be lost with it. The steps that it had claimed: their leases end now. The hint that it was about to
send after its last commit: the sagas that it worked on last are hinted at again. The messages that the broker had given
it, which Redis gives to nobody else for a quarter of an hour: they were at the head of the queue, so they are about the
sagas that have waited longest. Of the last two nobody knows which they were; a hint too many costs one query.

A call of the dead may still take effect: what it asked for lies with the other side, which does not know that the
caller is gone. So a look that finds it settles the step at once; one that finds nothing settles nothing before the
call's own time is over (`call_until`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import text

from sagajobs.saga.presence import LOCK_CLASS

if TYPE_CHECKING:
    from sagajobs.saga.database import Database

log = logging.getLogger(__name__)

GRACE = 0.5
"""Seconds for which a process must be missed: one whose connection was cut is back within a fraction of that."""

LAST = 4
"""Sagas that a dead process worked on last which are hinted at: it had one message in hand."""

HEAD = 8
"""Sagas from the head of the queue which are hinted at for each dead process: more than it had been given."""

FORGOTTEN_AFTER = 3600.0
"""Seconds after which a name is struck off that has not come back since the server was restarted."""

_HOLDING = """
    SELECT CAST(l.objid AS bigint) AS id FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.classid = :lock_class AND l.granted AND d.datname = current_database()
"""

MISS = text(f"""
    WITH holding AS MATERIALIZED ({_HOLDING}), noted AS (
        UPDATE saga_owners o SET missed_at = CASE WHEN o.missed_at IS NULL THEN clock_timestamp() END
        WHERE (o.missed_at IS NULL) <> EXISTS (SELECT FROM holding h WHERE h.id = o.id)
    )
    SELECT id FROM saga_owners o
    WHERE NOT EXISTS (SELECT FROM holding h WHERE h.id = o.id)
        AND missed_at < clock_timestamp() - CASE
            WHEN server_started = pg_postmaster_start_time() THEN make_interval(secs => :grace)
            ELSE make_interval(secs => :forgotten) END
""")  # noqa: S608 - no value in it
"""Note who is missing and who is back; the processes that have been missing long enough.

In the clock's own time, not `saga_now()`: a test that moves that on has killed nobody.
"""

BURY = text("DELETE FROM saga_owners WHERE id = :id AND missed_at IS NOT NULL RETURNING name")
"""Strike a process off (compare and set). No row: it is back, or another sweep sees to it."""

FREE = text("""
    WITH freed AS (
        UPDATE saga_steps s SET
            lease_until = NULL, call_until = CASE WHEN s.state = 'running' THEN s.lease_until ELSE s.call_until END
        FROM sagas g
        WHERE g.next_at IS NOT NULL AND s.saga_id = g.id AND s.owner = :name AND s.lease_until > saga_now()
        RETURNING s.saga_id
    ), due AS (
        UPDATE sagas g SET next_at = saga_now() WHERE id IN (SELECT saga_id FROM freed) AND next_at IS NOT NULL
    )
    SELECT count(*) FROM freed
""")
"""End the leases of a process. Found by way of the unfinished sagas, so that cost follows those, once a death."""

NUDGE = text("""
    WITH last AS (
        SELECT g.id FROM sagas g
        WHERE g.next_at > saga_now() AND EXISTS (
            SELECT FROM saga_steps s WHERE s.saga_id = g.id AND s.owner = :name AND s.stage >= g.stage - 1)
        ORDER BY g.updated_at DESC LIMIT :last FOR NO KEY UPDATE SKIP LOCKED
    ), head AS (
        SELECT g.id FROM sagas g
        WHERE g.next_at > saga_now() AND g.hints = 0 AND NOT EXISTS (
            SELECT FROM saga_steps s
            WHERE s.saga_id = g.id AND s.stage = g.stage AND coalesce(s.lease_until, s.due_at) > saga_now())
        ORDER BY g.next_at LIMIT :head FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE sagas g SET next_at = saga_now() WHERE id IN (SELECT id FROM last UNION SELECT id FROM head)
""")
"""Make due what the lost messages may have been about. A row that is locked is being worked on: it is passed over."""


def hold(database: Database) -> int:
    """Take up what processes that are gone have left; return how many those were.

    For the recovery sweep, which then hints at what has become due. Two at once share the dead between them.
    """
    with database.transaction() as connection:
        limits = {"lock_class": LOCK_CLASS, "grace": GRACE, "forgotten": FORGOTTEN_AFTER}
        gone = connection.execute(MISS, limits).scalars().all()
    return sum(_bury(database, number) for number in gone)


def _bury(database: Database, number: int) -> bool:
    with database.transaction() as connection:
        name = connection.execute(BURY, {"id": number}).scalar()
        if name is None:
            return False
        claims = connection.execute(FREE, {"name": name}).scalar_one()
        connection.execute(NUDGE, {"name": name, "last": LAST, "head": HEAD})
    log.warning("worker process %s is gone; it had claimed %d steps, which are taken up now", name, claims)
    return True
