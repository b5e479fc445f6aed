"""`SagaOrchestrator` by itself: the seed's four levels of compensation, in process, on record in the same tables."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import text

from sagajobs.errors import AmbiguousError, ClaimLost, SagaCompensationException, SagaException
from sagajobs.saga import SagaHandle, SagaOrchestrator
from sagajobs.saga.sweep import recover


@pytest.fixture
def saga(app_engine, clean) -> SagaOrchestrator:
    return SagaOrchestrator("by_hand")


def fail():
    raise ValueError("confidential detail")


def states(saga) -> dict[str, str]:
    return {name: str(step.state) for name, step in SagaHandle(saga.id).record().steps.items()}


def test_happy_path(saga):
    assert saga.execute_step("one", lambda: {"booking": 7}) == {"booking": 7}
    saga.execute_step("two", lambda: None, lambda: None)
    saga.complete()
    record = SagaHandle(saga.id).record()
    assert record.state == "completed"
    assert record.results == {"one": {"booking": 7}, "two": None}
    assert SagaHandle(saga.id).result() == record.results


def test_level_1_simple_compensation_gets_the_result(saga):
    restored = []
    saga.execute_step("cancel_booking", lambda: "booking-7", restored.append)
    saga.execute_step("second", lambda: "x", lambda: restored.append("second"))
    with pytest.raises(SagaException) as caught:
        saga.execute_step("third", fail, lambda: restored.append("third"))
    assert restored == ["second", "booking-7"], "newest first; what failed cleanly is not undone"
    assert (caught.value.saga_id, caught.value.failed_step) == (saga.id, "third")
    assert caught.value.completed_steps == ("cancel_booking", "second")
    assert isinstance(caught.value.__cause__, ValueError)
    assert SagaHandle(saga.id).status() == "compensated"
    assert states(saga) == {"cancel_booking": "undone", "second": "undone", "third": "failed"}


@pytest.mark.parametrize(("uid", "deleted"), [("uid-1", ["appointment"]), (None, [])])
def test_level_2_conditional_compensation(saga, uid, deleted):
    seen = []
    appointment = {"uid": uid}
    saga.execute_step("create", lambda: appointment, lambda made: seen.append("appointment") if made["uid"] else None)
    with pytest.raises(SagaException):
        saga.execute_step("next", fail)
    assert seen == deleted


def test_level_3_optional_step(saga):
    assert saga.execute_optional_step("staff", fail) is None
    saga.execute_step("next", lambda: 1)
    saga.complete()
    assert states(saga) == {"staff": "failed", "next": "done"}


def test_level_4_graceful_degradation_marks_for_retry(saga):
    marked = []
    saga.execute_step("book", lambda: 1, lambda: marked.append("cancelled"))
    saga.execute_optional_step("sync", fail, lambda: marked.append("retry"), required=False)
    saga.complete()
    assert marked == ["retry"]
    assert SagaHandle(saga.id).status() == "completed"


def test_an_optional_step_that_is_required_fails_the_saga(saga):
    with pytest.raises(SagaException):
        saga.execute_optional_step("staff", fail, required=True)


def test_an_optional_step_that_was_done_is_undone_too(saga):
    undone = []
    saga.execute_optional_step("extra", lambda: "e", undone.append)
    with pytest.raises(SagaException):
        saga.execute_step("next", fail)
    assert undone == ["e"]


def test_what_may_have_happened_is_undone_too(saga):
    undone = []

    def ambiguous():
        raise AmbiguousError("time-out")

    with pytest.raises(SagaException):
        saga.execute_step("book", ambiguous, undone.append)
    assert undone == [None]


def test_an_undo_that_fails_is_critical_and_the_others_run(saga, db, caplog):
    undone = []
    saga.execute_step("one", lambda: 1, undone.append)
    saga.execute_step("two", lambda: 2, lambda _: fail())
    with caplog.at_level(logging.INFO, "saga"), pytest.raises(SagaCompensationException) as caught:
        saga.execute_step("three", fail)
    assert undone == [1]
    assert list(caught.value.failed_compensations) == ["two"]
    assert caught.value.failed_step == "three"
    assert SagaHandle(saga.id).status() == "manual_review_required"
    assert states(saga) == {"one": "undone", "two": "undo_failed", "three": "failed"}
    assert db.execute(text("SELECT reason FROM review_cases")).scalar_one() == "an undo failed"
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)
    assert "confidential" not in caplog.text


def test_an_undo_that_fails_once_is_repeated(saga):
    tries = []

    def undo():
        tries.append(1)
        if len(tries) == 1:
            fail()

    saga.execute_step("one", lambda: 1, undo)
    with pytest.raises(SagaException) as caught:
        saga.execute_step("two", fail)
    assert not isinstance(caught.value, SagaCompensationException)
    assert len(tries) == 2


def test_two_steps_of_one_name_are_refused_and_what_was_done_is_undone(saga):
    undone = []
    saga.execute_step("one", lambda: 1, undone.append)
    with pytest.raises(SagaException, match="two steps called 'one'"):
        saga.execute_step("one", lambda: 2, undone.append)
    assert undone == [1]
    assert SagaHandle(saga.id).status() == "compensated"


def test_when_degrading_fails_too_a_person_is_asked(saga, db):
    saga.execute_step("book", lambda: 1)
    with pytest.raises(SagaCompensationException) as caught:
        saga.execute_optional_step("sync", fail, fail)
    assert list(caught.value.failed_compensations) == ["sync"]
    assert SagaHandle(saga.id).status() == "manual_review_required"
    assert "failed" in db.execute(text("SELECT reason FROM review_cases")).scalar_one()


def test_compensate_by_hand(saga):
    undone = []
    saga.execute_step("one", lambda: 1, undone.append)
    saga.compensate()
    assert undone == [1]
    assert SagaHandle(saga.id).status() == "compensated"


def test_when_its_process_dies_a_person_is_asked(app_engine, clean, db):
    saga = SagaOrchestrator("by_hand", patience=0.01)
    saga.execute_step("one", lambda: 1)
    while SagaHandle(saga.id).status() != "manual_review_required":
        recover(app_engine)
    assert db.execute(text("SELECT reason FROM review_cases")).scalar_one() == "the process that ran it is gone"
    with pytest.raises(ClaimLost):
        saga.execute_step("two", lambda: 2)
    with pytest.raises(ClaimLost):
        saga.complete()
