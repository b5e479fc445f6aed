"""The word of a third party that an unknown outcome can be looked at now (the outside world has said something)."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, text

NUDGE = text("""
    WITH step AS (
        UPDATE saga_steps SET due_at = NULL
        WHERE saga_id = ANY(CAST(:ids AS uuid[])) AND state = 'unknown' AND due_at > saga_now()
        RETURNING saga_id
    )
    UPDATE sagas SET next_at = saga_now() WHERE id IN (SELECT saga_id FROM step) AND next_at > saga_now()
    RETURNING id
""")
"""Have the next probe of sagas made now: due, and found by the next sweep. Steps' rows first, then sagas'."""


def nudge(connection: Connection, saga_ids: Collection[str]) -> int:
    """Have sagas that wait to probe a step of unknown outcome do so now; return how many there were.

    Nothing is concluded from the word itself: a saga that is not in doubt is left alone, and one that is looks itself.

    Args:
        connection: in the transaction whose commit makes it so.
        saga_ids: of sagas that may be concerned.
    """
    if not saga_ids:
        return 0
    return len(connection.execute(NUDGE, {"ids": list(saga_ids)}).all())
