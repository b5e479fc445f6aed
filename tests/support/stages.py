"""What stands of `Wide` sagas, whose steps run side by side, and what brings them to their end."""

from __future__ import annotations

from sqlalchemy import text

from sagajobs.saga.sweep import recover
from tests.support.sagas import record
from tests.support.throwaway import let_time_pass
from tests.support.wide import Wide

SIDE_BY_SIDE = ["book[0]", "book[1]", "book[2]", "beside", "extra"]
STEPS = ["start", *SIDE_BY_SIDE, "last"]


def begun(forward, **request):
    """Return a saga that stands where several of its steps may run."""
    handle = record(Wide, request)
    assert forward(handle, "start").following == tuple(handle.record().in_stage(1))
    return handle


def tried(world, handle, what: str) -> int:
    """Return how often a step, or an undo, was tried."""
    return world.acts(handle.id).count(f"try:{what}")


def standing(world, handle) -> list[int]:
    """Return the items that are booked outside."""
    return [item for item in range(10) if world.stands(f"{handle.id}/book[{item}]")]


def due_in(db, handle) -> float:
    """Return the seconds until the sweep looks at a saga."""
    return float(
        db.execute(
            text("SELECT extract(epoch FROM next_at - saga_now()) FROM sagas WHERE id = :id"), {"id": handle.id}
        ).scalar_one()
    )


def finish(app_engine, broker, *handles, rounds: int = 40) -> None:
    """Drain and sweep, as if much time passed in between, until all are at rest."""
    for _ in range(rounds):
        broker.drain()
        if all(handle.status() in ("completed", "compensated", "manual_review_required") for handle in handles):
            return
        let_time_pass(app_engine)
        recover(app_engine)
    raise AssertionError(f"still under way: {[handle.status() for handle in handles]}")
