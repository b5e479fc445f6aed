"""The audit log: what was done, by whom and to what. It stays when the saga that it tells of has been purged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert

from sagajobs.saga.schema import audit_log

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from sagajobs.saga.operator import Signature


def write_audit_row(
    db: Connection | Session,
    *,
    actor: str,
    action: str,
    entity: str,
    entity_id: int | None = None,
    saga_id: str | None = None,
    detail: dict[str, Any],
) -> None:
    """Write a row, in the transaction of what it tells of.

    Args:
        db: in that transaction.
        actor: who did it.
        action: what was done, as ``entity.word``.
        entity: what kind of thing it was done to.
        entity_id: its number, if it has one.
        saga_id: of the saga that it is about.
        detail: what else is to be known later; JSON.
    """
    row = {"actor": actor, "action": action, "entity": entity, "entity_id": entity_id, "saga_id": saga_id}
    db.execute(insert(audit_log).values(**row, detail=detail))


def put_on_record(
    connection: Connection,
    by: Signature,
    action: str,
    *,
    entity: str,
    entity_id: int | None = None,
    saga_id: str | None = None,
    **detail: Any,
) -> None:
    """Write one act of a person; arguments as for `write_audit_row`, who and why as he has signed it."""
    signed = {**detail, "why": by.why}
    write_audit_row(
        connection, actor=by.who, action=action, entity=entity, entity_id=entity_id, saga_id=saga_id, detail=signed
    )
