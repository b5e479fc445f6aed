"""Alerts of the booking sweeps: on the log channel `saga`, at the level at which somebody is called."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Connection, func, select, text

from sagajobs.saga.audit import write_audit_row

log = logging.getLogger("saga")

AGAIN_AFTER = 24
"""Hours after which something that still is as it was is said again."""

_LOCK = 0xA1E7

_SAID = text("""
    SELECT EXISTS (
        SELECT FROM audit_log WHERE entity = :entity AND entity_id = :entity_id AND action = :action
            AND at > saga_now() - make_interval(hours => :hours))
""")


def alert(event: str, sentence: str, *, saga_id: str | None = None) -> None:
    """Call somebody.

    Args:
        event: short name, for rules on the log.
        sentence: what is wrong, with ids and nothing personal (SPEC G7).
        saga_id: which saga knows more, if one does.
    """
    log.critical("CRITICAL: %s", sentence, extra={"event": event, "saga_id": saga_id})


def taking_turns(connection: Connection, entity_id: int) -> None:
    """Wait for whoever else is writing about this number, until his transaction has ended."""
    connection.execute(select(func.pg_advisory_xact_lock(_LOCK, func.hashint8(entity_id))))


def once_a_day(
    connection: Connection, *, action: str, entity: str, entity_id: int, saga_id: str | None, detail: dict[str, Any]
) -> bool:
    """Put something on the audit trail unless it stands there for today; tell whether it was put there.

    Two sweeps at once take turns, so that one of them does.
    """
    taking_turns(connection, entity_id)
    known = {"entity": entity, "entity_id": entity_id, "action": action, "hours": AGAIN_AFTER}
    if connection.execute(_SAID, known).scalar_one():
        return False
    write_audit_row(
        connection,
        actor="sagajobs",
        action=action,
        entity=entity,
        entity_id=entity_id,
        saga_id=saga_id,
        detail=detail,
    )
    return True
