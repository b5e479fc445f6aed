"""Sagas about which a person is asked, and the sweep that looks at them."""

from __future__ import annotations

from sqlalchemy import text

from sagajobs.saga.sweeps import run
from tests.support.sagas import QUICK, Scripted, record
from tests.support.tables import change

ASKED = "manual_review_required"
LOST = ["book+timeout"]


def sweep(app_engine) -> int:
    """Sweep once; return how many looks and alerts that were."""
    return run(app_engine, app_engine.sweeps["review"]).found


def history(db, saga_id: str) -> list[str]:
    """Return the events of a saga, in order."""
    return list(
        db.execute(text("SELECT event FROM saga_events WHERE saga_id = :id ORDER BY id"), {"id": saga_id}).scalars()
    )


def asked(app_engine, *, was: str = "running", useful_for: str | None = None, **script: list[str]):
    """Carry a saga on until a person is asked about it."""
    handle = record(Scripted, {"script": script})
    if useful_for:
        change(
            app_engine,
            "UPDATE sagas SET useful_until = saga_now() + CAST(:span AS interval) WHERE id = :id",
            span=useful_for,
            id=handle.id,
        )
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == ASKED
    change(app_engine, "UPDATE review_cases SET was = :was WHERE saga_id = :id", was=was, id=handle.id)
    return handle


def in_doubt(app_engine, *, was: str = "running", useful_for: str | None = None, **script: list[str]):
    """Return a saga whose call may have got through, the probe having failed too often to tell."""
    looks = ["timeout"] * QUICK.max_attempts
    return asked(app_engine, was=was, useful_for=useful_for, **{"call": LOST, "find": [*looks, "ok"], **script})
