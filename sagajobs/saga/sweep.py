"""The recovery sweep: whatever has stood still is hinted at again (SPEC G1).

It executes nothing itself: it re-sends hints, so that two sweeps at once, or a sweep beside a living worker, cost one
query each and do no harm.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import RowMapping

from sagajobs.saga import statements, wake
from sagajobs.saga.events import Lifecycle, emit
from sagajobs.saga.states import FORWARD, SagaState
from sagajobs.saga.store import Review, Store
from sagajobs.saga.watching import Doing

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine
    from sagajobs.saga.publisher import Publisher

log = logging.getLogger(__name__)

BATCH = 200
"""Sagas taken up in one sweep: a bounded time, and the next sweep is a second away."""

NOBODY_AFTER = 600.0
"""Seconds overdue after which a saga of an unknown kind counts as known to nobody: longer than a deployment takes."""

LONGEST_SILENCE = 600.0
"""Seconds, at most, between two hints for one saga: a slow queue must not be flooded with doubles."""


def recover(engine: Engine, *, batch: int = BATCH) -> int:
    """Hint again at sagas whose `next_at` has passed; return how many.

    Each is taken in a transaction of its own, so that one that cannot be taken up does not stop the others.
    """
    if engine.publisher is None:
        raise RuntimeError("a sweep needs a publisher")
    wake.hold(engine.database)
    with engine.database.reading() as connection:
        found = connection.execute(
            statements.DUE, {"batch": batch, "known": [*engine.kinds, ""], "nobody": NOBODY_AFTER}
        )
        due = [str(row.id) for row in found]
    taken = 0
    for saga_id in due:
        try:
            taken += _recover_one(engine, engine.publisher, saga_id)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this one, the others must be taken up
            log.warning("saga %s could not be taken up now: %s", saga_id, type(error).__name__)
    return taken


def _recover_one(engine: Engine, publisher: Publisher, saga_id: str) -> bool:
    with engine.database.transaction() as connection:
        row = (
            connection.execute(
                statements.TAKE_DUE,
                {"id": saga_id, "stall_after": engine.executor.stall_after, "longest": LONGEST_SILENCE},
            )
            .mappings()
            .first()
        )
        if row is None:
            return False  # another sweep took it, or it moved on by itself
        if row["kind"] == "orchestrated":
            return _to_review(Store(connection), row, "the process that ran it is gone")
        kind = engine.kinds.get(row["name"])
        if kind is None:
            return _to_review(Store(connection), row, "no code knows this kind of saga")
    kind = engine.version_of(kind, saga_id)
    hint = Doing(what="hint", saga=kind.name, saga_id=saga_id, attempt=row["hints"], trace=row["trace"])
    # Committed first, published second: a sweep that dies in between has only put the hint off.
    with engine.watchers.doing(hint):
        if SagaState(row["state"]) in FORWARD:
            publisher.steps(kind, saga_id, kind.definition.hintable(row["open"] or ()))
        else:
            publisher.compensation(kind, saga_id)
    emit(Lifecycle.SAGA_HINTED, saga=kind.name, saga_id=saga_id, attempt=row["hints"], trace=row["trace"])
    return True


def _to_review(store: Store, row: RowMapping, reason: str) -> bool:
    """Ask a person about a saga whose steps are code that is gone, with its process or its release."""
    turned = store.turn(
        str(row["id"]),
        SagaState(row["state"]),
        SagaState.MANUAL_REVIEW_REQUIRED,
        Lifecycle.REVIEW_REQUIRED,
        review=Review(reason=reason, evidence={"stage": row["stage"]}),
    )
    if turned:
        emit(Lifecycle.REVIEW_REQUIRED, saga=row["name"], saga_id=str(row["id"]), trace=row["trace"])
    return turned
