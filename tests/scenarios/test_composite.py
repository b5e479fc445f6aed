"""The seed's seven test scenarios (SPEC 9), for the saga that books several appointments together."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from sqlalchemy import text

from sagajobs import CompositeBookingSaga, SagaCompensationException, SagaException, SagaHandle
from sagajobs.booking.outside import METADATA_KEY


def appointments(db) -> list:
    return db.execute(text("SELECT * FROM appointments ORDER BY composite_id, segment")).all()


def saga(db) -> SagaHandle:
    return SagaHandle(str(db.execute(text("SELECT id FROM sagas")).scalar_one()))


def history(db) -> Counter[str]:
    return Counter(db.execute(text("SELECT event FROM saga_events")).scalars())


# --- in this process, with less patience: before there is a worker, which has more and would take over ---


def test_compensation_fails_critical(order, db, simulator, impatient, failing, caplog):
    """All booked, then a failure here, and Cal.com does not take the first cancellation: nothing else is touched."""
    impatient(CompositeBookingSaga, "book_segment")
    failing(CompositeBookingSaga)
    simulator.fault("cancel", "http_503", "before", count=2)
    with caplog.at_level(logging.CRITICAL, "saga"), pytest.raises(SagaCompensationException) as caught:
        CompositeBookingSaga.run(*order(3))
    handle = saga(db)
    (failed,) = caught.value.failed_compensations
    assert failed.startswith("book_segment[")
    assert handle.status() == "manual_review_required"
    assert {row.deleted_at for row in appointments(db)} == {None}
    assert {row.calcom_sync_status for row in appointments(db)} == {"manual_review_required"}
    assert len(simulator.standing()) == 3
    assert history(db)["compensation_failed"] == 1
    said = [record.getMessage() for record in caplog.records]
    assert any(f"CRITICAL: Compensation failed (saga: composite_booking, step: {failed}" in one for one in said)


def test_manual_review_after_persistent_failure(order, db, simulator, impatient):
    """One was sent without an answer, and no look at Cal.com succeeds either: nobody can tell whether it is booked."""
    impatient(CompositeBookingSaga, "book_segment")
    simulator.fault("create", "timeout", "after", count=1)
    simulator.fault("list", "http_503", "before", count=50)
    with pytest.raises(SagaCompensationException, match="needs manual review"):
        CompositeBookingSaga.run(*order(2))
    handle = saga(db)
    assert (handle.status(), handle.public_status()) == ("manual_review_required", "needs us")
    (case,) = db.execute(text("SELECT reason, step, urgent_at FROM review_cases")).all()
    assert case.reason == "nothing can tell whether it happened"
    assert case.step.startswith("book_segment[")
    assert case.urgent_at == min(row.starts_at for row in appointments(db))
    assert {row.deleted_at for row in appointments(db)} == {None}, "neither undone nor called done"
    assert len(simulator.standing()) == 2


@pytest.mark.parametrize("fails", range(3))
@pytest.mark.parametrize("kind", ["timeout", "http_503"])
def test_all_or_nothing(order, db, simulator, impatient, kind, fails):
    """Whichever segment is refused, while the others are answered well or ill: not one booking is left."""
    impatient(CompositeBookingSaga, "book_segment")
    wanted = order(3)
    taken = wanted.segments[fails]
    simulator.book(event_type_id=taken["event_type_id"], start=taken["start"].isoformat())
    simulator.fault("create", kind, "after", count=1)
    with pytest.raises(SagaException) as caught:
        CompositeBookingSaga.run(*wanted)
    assert not isinstance(caught.value, SagaCompensationException)
    assert [booked for booked in simulator.standing() if METADATA_KEY in booked["metadata"]] == []
    assert {(row.status, row.deleted_at is None) for row in appointments(db)} == {("failed", False)}
    simulator.reset()
    made = CompositeBookingSaga.run(*order(3))
    assert len(simulator.standing()) == len(made.appointments) == 3


# --- by workers ---


def test_happy_path(worker, order, db, simulator, staff):
    handle = CompositeBookingSaga.enqueue(*order(3))
    assert handle.wait(90) == "completed"
    assert handle.public_status() == "confirmed"
    made = handle.result()
    uids = {booked["metadata"][METADATA_KEY]: booked["uid"] for booked in simulator.standing()}
    assert [one.calcom_v2_booking_id for one in made.appointments] == [
        uids[f"{handle.id}/book_segment[{number}]"] for number in range(3)
    ]
    assert [(one.status, one.staff_id) for one in made.appointments] == [("scheduled", who) for who in staff[:3]]
    assert history(db) == {"saga_created": 1, "step_executing": 3, "step_completed": 6, "saga_completed": 1}


def test_one_step_fails_and_compensation_runs(worker, order, db, simulator):
    """Cal.com has given the slot of the last segment to somebody else in the meantime."""
    wanted = order(3)
    taken = wanted.segments[2]
    other = simulator.book(event_type_id=taken["event_type_id"], start=taken["start"].isoformat())
    handle = CompositeBookingSaga.enqueue(*wanted)
    assert handle.wait(90) == "compensated"
    assert handle.record().failed_step == "book_segment[2]"
    assert handle.public_status() == "cancelled"
    assert [booked["uid"] for booked in simulator.standing()] == [other["uid"]]
    assert {(row.status, row.deleted_at is None) for row in appointments(db)} == {("failed", False)}
    with pytest.raises(SagaException, match="was undone"):
        handle.result()


def test_100_sagas_run_concurrently(worker, order, db, simulator, staff):
    orders = [order(2) for _ in range(100)]
    for one in orders[::10]:
        taken = one.segments[1]
        simulator.book(event_type_id=taken["event_type_id"], start=taken["start"].isoformat())
    handles = [CompositeBookingSaga.enqueue(*one) for one in orders]
    ends = [handle.wait(150) for handle in handles]
    assert ends == (["compensated"] + ["completed"] * 9) * 10
    ours = [booked for booked in simulator.standing() if METADATA_KEY in booked["metadata"]]
    assert sorted(booked["metadata"][METADATA_KEY] for booked in ours) == sorted(
        f"{handle.id}/book_segment[{number}]"
        for handle, end in zip(handles, ends, strict=True)
        for number in range(2)
        if end == "completed"
    )
    standing = {row.calcom_v2_booking_id for row in appointments(db) if row.deleted_at is None}
    assert standing == {booked["uid"] for booked in ours}
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0


def test_retry_after_transient_failure(worker, order, db, simulator):
    """Cal.com does not answer twice, and nothing was done: whoever was not served tries again."""
    simulator.fault("create", "http_503", "before", count=2)
    handle = CompositeBookingSaga.enqueue(*order(3))
    assert handle.wait(90) == "completed"
    assert history(db)["step_retry"] == 2
    assert sum(handle.record().steps[f"book_segment[{number}]"].attempts for number in range(3)) == 5
    assert len(simulator.ledger()) == 3
