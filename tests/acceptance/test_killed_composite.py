"""The composite saga with whole workers killed, and every message many times over: all segments once, or none.

Processes of a pool that are killed, at every step and undo, are in `kit/test_composite.py`.
"""

from __future__ import annotations

import itertools
from functools import partial

import pytest
from sqlalchemy import text

from sagajobs import CompositeBookingSaga
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.root import app
from sagajobs.saga.faultpoints import Point
from sagajobs.testing.fleet import fleet
from tests.support.doomed import Doomed

STAGE = ["book_segment[1]", "assign_staff"]


def _assert_all_once(simulator, db, ids: list[str]) -> None:
    """Assert that Cal.com's ledger and the table agree: a standing booking for each segment, under its own key."""
    booked = sorted(booking["metadata"][METADATA_KEY] for booking in simulator.ledger())
    assert booked == sorted(f"{saga_id}/book_segment[{number}]" for saga_id in ids for number in range(2))
    rows = db.execute(text("SELECT calcom_v2_booking_id AS uid, status FROM appointments")).all()
    assert {row.uid for row in rows} == {booking["uid"] for booking in simulator.standing()}
    assert {row.status for row in rows} == {"scheduled"}
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0


@pytest.mark.siege
def test_workers_killed_at_every_point_of_what_runs_side_by_side(workers, order, simulator, db, app_engine, staff):
    with fleet(workers) as beat:
        doomed = Doomed(app_engine, beat, "worker")
        for step, point in itertools.product(STAGE, Point):
            doomed.start(partial(CompositeBookingSaga.enqueue, *order(2)), step, point)
        doomed.assert_all("completed")
    _assert_all_once(simulator, db, doomed.ids)


def test_every_message_many_times_changes_nothing(worker, order, simulator, db, staff):
    good, bad = order(2), order(2)
    taken = bad.segments[1]
    other = simulator.book(event_type_id=taken["event_type_id"], start=taken["start"].isoformat())
    handles = [CompositeBookingSaga.enqueue(*one) for one in (good, bad)]
    messages = [(step, {}) for step in ("create_customer", "create_appointments", "assign_staff", "compensate")]
    messages += [("book_segment", {"item": number}) for number in range(2)]
    while any(handle.status() not in ("completed", "compensated") for handle in handles):
        for handle, (name, item) in itertools.product(handles, messages):
            queue = "saga.compensate" if name == "compensate" else "saga.steps"
            task = app.tasks[f"composite_booking.{name}"]
            task.si(saga_id=handle.id, **item).set(queue=queue).apply_async()
    assert [handle.status() for handle in handles] == ["completed", "compensated"]
    standing = {booking["metadata"].get(METADATA_KEY) for booking in simulator.standing()}
    assert standing == {other["metadata"].get(METADATA_KEY)} | {f"{handles[0].id}/book_segment[{n}]" for n in range(2)}
    assert len(simulator.ledger()) <= 4, "nothing was booked twice"
    rows = db.execute(
        text("SELECT saga_id, status FROM appointments ORDER BY saga_id = :good DESC, segment"), {"good": handles[0].id}
    ).all()
    assert [row.status for row in rows] == ["scheduled"] * 2 + ["failed"] * 2
