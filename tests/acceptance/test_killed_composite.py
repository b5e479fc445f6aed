"""The composite saga with workers killed at every point, and with every message doubled: all segments once, or none."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
from sqlalchemy import text

from sagajobs import CompositeBookingSaga
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.root import app
from sagajobs.saga.faultpoints import Point
from tests.support.fleet import Doomed, fleet

STEPS = ["create_customer", "create_appointments", "book_segment[0]", "book_segment[1]", "assign_staff"]
STAGE = ["book_segment[1]", "assign_staff"]
UNDO_POINTS = [Point.BEFORE_CLAIM, Point.AFTER_CLAIM, Point.AFTER_CALL, Point.BEFORE_COMMIT, Point.AFTER_COMMIT]


def _assert_all_once(simulator, db, ids: list[str]) -> None:
    """Assert that Cal.com's ledger and the table agree: a standing booking for each segment, under its own key."""
    booked = sorted(booking["metadata"][METADATA_KEY] for booking in simulator.ledger())
    assert booked == sorted(f"{saga_id}/book_segment[{number}]" for saga_id in ids for number in range(2))
    rows = db.execute(text("SELECT calcom_v2_booking_id AS uid, status FROM appointments")).all()
    assert {row.uid for row in rows} == {booking["uid"] for booking in simulator.standing()}
    assert {row.status for row in rows} == {"scheduled"}
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("whom", "steps"), [("child", STEPS), ("worker", STAGE)], ids=["child", "worker"])
def test_killed_at_every_point_of_every_step(workers, order, simulator, db, app_engine, staff, whom, steps):
    with fleet(workers) as beat:
        doomed = Doomed(app_engine, beat, whom)
        for step, point in itertools.product(steps, Point):
            doomed.start(partial(CompositeBookingSaga.enqueue, *order(2)), step, point)
        doomed.assert_all("completed")
    _assert_all_once(simulator, db, doomed.ids)


@pytest.mark.timeout(240)
def test_killed_at_every_point_of_every_undo(workers, order, simulator, db, app_engine, staff):
    """`assign_staff`, required for these, fails; killed while bookings and appointments are undone."""
    undone = ["create_appointments", "book_segment[0]", "book_segment[1]"]
    with fleet(workers, REQUIRED_STEP_FAILS="1") as beat:
        doomed = Doomed(app_engine, beat, "child")
        for step, point in itertools.product(undone, UNDO_POINTS):
            doomed.start(partial(CompositeBookingSaga.enqueue, *order(2)), step, f"undo.{point}")
        doomed.assert_all("compensated")
    assert simulator.standing() == []
    assert len(simulator.ledger()) == 2 * len(doomed.ids)
    assert db.execute(text("SELECT count(*) FROM appointments WHERE deleted_at IS NULL")).scalar_one() == 0
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0


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
