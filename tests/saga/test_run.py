"""Sagas carried out in process, step by step and failure by failure: what stands in the table and in the world."""

from __future__ import annotations

import contextlib

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from sagajobs.errors import PermanentError, SagaCompensationException, SagaException, SagaNotFinished, TransientError
from sagajobs.saga import SagaHandle, step
from tests.support.sagas import Pivoting, Scripted, record, states


def run(kind=Scripted, *, skip=False, adopt=False, **script):
    """Run a saga; returns what it returned or raised, and its handle."""
    request = {"script": script, "skip": skip, "adopt": adopt}
    handle = record(kind, request)
    ended, cause = kind.engine.drive(kind, handle.id)
    try:
        return kind.engine.settle_up(ended, cause), handle
    except Exception as error:  # noqa: BLE001 - the tests look at it
        return error, handle


def events(db, handle: SagaHandle) -> list[str]:
    rows = db.execute(text("SELECT event, step FROM saga_events WHERE saga_id = :id ORDER BY id"), {"id": handle.id})
    return [f"{row.event} {row.step}" if row.step else row.event for row in rows]


def cases(db) -> list[str]:
    return [row.reason for row in db.execute(text("SELECT reason FROM review_cases WHERE closed_at IS NULL"))]


def tried(world, handle: SagaHandle, what: str) -> int:
    return world.acts(handle.id).count(f"try:{what}")


def test_happy_path(db, world):
    result, handle = run()
    assert handle.status() == "completed"
    assert result == {"first": {"by": "first"}, "call": {"key": f"{handle.id}/call"}, "extra": None, "last": 42}
    assert handle.result() == result
    assert world.local(handle.id) == ["first", "note_call", "extra", "last"]
    assert world.acts(handle.id).count("book") == 1
    assert events(db, handle) == [
        "saga_created",
        "step_completed first",
        "step_executing call",
        "step_completed call",
        "step_completed extra",
        "step_completed last",
        "saga_completed",
    ]


def test_a_local_step_that_fails_leaves_nothing_behind(world):
    error, handle = run(first=["bug"])
    assert isinstance(error, SagaException)
    assert not isinstance(error, SagaCompensationException)
    assert (error.saga_id, error.failed_step, error.completed_steps) == (handle.id, "first", ())
    assert isinstance(error.__cause__, KeyError)
    assert handle.status() == "compensated"
    assert world.local(handle.id) == []
    assert world.acts(handle.id) == ["try:first"]


def test_a_transient_failure_is_tried_again_and_what_it_wrote_is_gone(world):
    _, handle = run(first=["transient", "transient", "ok"])
    assert handle.status() == "completed"
    assert handle.record().steps["first"].attempts == 3
    assert world.local(handle.id).count("first") == 1


def test_attempts_are_limited(world):
    error, handle = run(first=["transient"])
    assert isinstance(error.__cause__, TransientError)
    assert tried(world, handle, "first") == 3
    assert handle.status() == "compensated"


def test_a_deferred_attempt_does_not_count(world):
    _, handle = run(call=["deferred"] * 6 + ["ok"])
    assert handle.status() == "completed"
    assert tried(world, handle, "call") == 7
    assert handle.record().steps["call"].attempts == 1


def test_a_refusal_undoes_what_was_done(db, world):
    error, handle = run(call=["permanent"])
    assert isinstance(error.__cause__, PermanentError)
    assert error.completed_steps == ("first",)
    assert states(handle) == {
        "first": "undone",
        "call": "failed",
        "extra": "waiting",
        "last": "waiting",
    }
    assert world.local(handle.id) == ["first", "undo_first"]
    assert tried(world, handle, "cancel") == 0
    assert events(db, handle) == [
        "saga_created",
        "step_completed first",
        "step_executing call",
        "step_failed call",
        "compensation_completed first",
        "saga_compensated",
    ]


@pytest.mark.parametrize("how", ["timeout", "bug", "refused"])
def test_booked_but_reported_as_failed_is_found_and_not_booked_twice(world, how):
    result, handle = run(call=[f"book+{how}"])
    assert handle.status() == "completed"
    assert result["call"] == {"key": f"{handle.id}/call", "found": True}
    assert world.acts(handle.id).count("book") == 1
    assert world.local(handle.id).count("note_call") == 1


def test_not_booked_after_a_timeout_is_seen_often_enough_and_tried_again(world):
    _, handle = run(call=["timeout", "ok"])
    assert handle.status() == "completed"
    assert tried(world, handle, "find") >= 2
    assert tried(world, handle, "call") == 2
    assert world.acts(handle.id).count("book") == 1


def test_refused_and_not_ours_is_final(world):
    error, handle = run(call=["refused", "ok"])
    assert isinstance(error, SagaException)
    assert tried(world, handle, "call") == 1
    assert handle.status() == "compensated"


def test_a_probe_that_cannot_tell_is_repeated_and_then_asks_a_person(db, world):
    error, handle = run(call=["timeout"], find=["transient"])
    assert isinstance(error, SagaCompensationException)
    assert handle.status() == "manual_review_required"
    assert tried(world, handle, "find") == 3
    assert cases(db) == ["nothing can tell whether it happened"]
    assert states(handle)["first"] == "done", "nothing may be undone below a step whose outcome is unknown"


def test_a_probe_that_fails_once_is_repeated(world):
    _, handle = run(call=["book+timeout"], find=["transient", "ok"])
    assert handle.status() == "completed"
    assert world.acts(handle.id).count("book") == 1


def test_done_and_taken_back_by_somebody_else_is_a_failure_with_nothing_to_cancel(world):
    _, handle = run(call=["timeout"], find=["gone"])
    assert handle.status() == "compensated"
    assert tried(world, handle, "cancel") == 0


def test_what_began_before_the_saga_is_adopted(app_engine, world):
    handle = record(Scripted, {"adopt": True})
    world.act(f"{handle.id}/call", "book")
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "completed"
    assert tried(world, handle, "call") == 0
    assert world.acts(handle.id).count("book") == 1


def test_what_began_before_the_saga_is_undone_even_if_the_first_step_fails(app_engine, world):
    handle = record(Scripted, {"adopt": True, "script": {"first": ["bug"]}})
    world.act(f"{handle.id}/call", "book")
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "compensated"
    assert not world.stands(f"{handle.id}/call")
    assert states(handle)["call"] == "undone"


def test_undo_runs_backwards_and_its_evidence_is_kept(db, world):
    error, handle = run(last=["bug"])
    assert error.failed_step == "last"
    assert error.completed_steps == ("first", "call", "extra")
    assert handle.status() == "compensated"
    assert not world.stands(f"{handle.id}/call")
    undone = [event for event in events(db, handle) if event.startswith("compensation_completed")]
    assert undone == ["compensation_completed call", "compensation_completed first"]
    receipts = db.execute(text("SELECT name, receipt FROM saga_steps WHERE receipt IS NOT NULL ORDER BY position"))
    assert [tuple(row) for row in receipts] == [("first", {"undone": "first"}), ("call", {"standing": False})]


def test_an_undo_that_fails_is_repeated(world):
    _, handle = run(last=["bug"], cancel=["transient", "timeout", "ok"])
    assert handle.status() == "compensated"
    assert tried(world, handle, "cancel") == 3
    assert world.acts(handle.id).count("cancel") == 1


@pytest.mark.parametrize(("how", "tries"), [("transient", 3), ("permanent", 1)])
def test_an_undo_that_fails_for_good_halts_the_saga_and_asks_a_person(db, world, how, tries):
    error, handle = run(last=["bug"], cancel=[how])
    assert isinstance(error, SagaCompensationException)
    assert list(error.failed_compensations) == ["call"]
    assert handle.status() == "manual_review_required"
    assert tried(world, handle, "cancel") == tries
    assert states(handle) | {"extra": "-"} == {"first": "done", "call": "undo_failed", "extra": "-", "last": "failed"}
    assert cases(db) == ["an undo failed"]


def test_a_local_undo_that_fails_for_good_halts_the_saga_too(db, world):
    error, handle = run(call=["permanent"], undo_first=["bug"])
    assert isinstance(error, SagaCompensationException)
    assert states(handle)["first"] == "undo_failed"
    assert world.local(handle.id) == ["first"], "what the failed undo wrote is rolled back"
    assert cases(db) == ["an undo failed"]


def test_an_optional_step_may_fail(db, world):
    result, handle = run(extra=["bug"])
    assert handle.status() == "completed"
    assert "extra" not in result
    assert states(handle)["extra"] == "failed"
    assert "extra" not in world.local(handle.id)


def test_a_step_is_skipped_by_its_condition(world):
    _, handle = run(skip=True)
    assert handle.status() == "completed"
    assert states(handle)["extra"] == "skipped"
    assert tried(world, handle, "extra") == 0


def test_what_the_database_refuses_to_record_is_undone_outside(world):
    error, handle = run(note_call=["bug"])
    assert isinstance(error, SagaException)
    assert handle.status() == "compensated"
    assert world.acts(handle.id).count("book") == 1
    assert not world.stands(f"{handle.id}/call")


def test_before_the_pivot_a_failure_undoes_and_past_it_only_forward(db, world):
    _, handle = run(Pivoting, pivot=["bug"])
    assert handle.status() == "compensated"
    error, handle = run(Pivoting, after=["transient", "ok"])
    assert handle.status() == "completed"
    error, handle = run(Pivoting, after=["bug"])
    assert isinstance(error, SagaCompensationException)
    assert handle.status() == "manual_review_required"
    assert "undo_before" not in world.local(handle.id)
    assert cases(db) == ["failed past the pivot"]


def test_past_its_deadline_a_saga_is_undone(db, app_engine, world):
    handle = record(Scripted, {})
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET useful_until = saga_now() - interval '1 s'"))
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "compensated"
    assert world.acts(handle.id) == []
    assert handle.record().error["class"] == "DeadlineExceeded"


def test_history_cannot_be_changed(app_engine, world):
    run()
    with pytest.raises(Exception, match="append-only"), app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE saga_events SET event = 'forged'"))


def test_a_saga_under_way_has_no_result_yet(app_engine, world):
    handle = record(Scripted, {})
    with pytest.raises(SagaNotFinished):
        handle.result()
    with pytest.raises(SagaNotFinished, match="still pending"):
        handle.wait(timeout=0.05)
    app_engine.drive(Scripted, handle.id)


@pytest.mark.parametrize(
    ("how", "ends", "written"), [("commit", "completed", ["1", "2"]), ("rollback", "compensated", [])]
)
def test_a_step_that_ends_its_own_transaction_never_loses_a_part_of_its_writes(throwaway, world, how, ends, written):
    def act(self, db):
        db.execute(text("INSERT INTO test_local (saga_id, step) VALUES (:id, '1')"), {"id": self.id})
        getattr(db, how)()
        db.execute(text("INSERT INTO test_local (saga_id, step) VALUES (:id, '2')"), {"id": self.id})

    handle = throwaway.record(act=step(irreversible=True)(act))
    assert throwaway.sweep(handle) == ends
    assert world.local(handle.id) == written


def test_a_savepoint_that_is_rolled_back_is_no_mistake(throwaway, world):
    def act(self, db):
        try:
            with db.begin_nested():
                db.execute(text("SELECT 1 / 0"))
        except DBAPIError:
            db.execute(text("INSERT INTO test_local (saga_id, step) VALUES (:id, 'instead')"), {"id": self.id})

    handle = throwaway.record(act=step(irreversible=True)(act))
    assert throwaway.sweep(handle) == "completed"
    assert world.local(handle.id) == ["instead"]


def test_a_statement_that_failed_and_was_ignored_fails_the_step(throwaway, db):
    def act(self, db):
        with contextlib.suppress(DBAPIError):
            db.execute(text("SELECT 1 / 0"))

    assert throwaway.sweep(throwaway.record(act=step(irreversible=True)(act))) == "compensated"
    (error,) = db.execute(text("SELECT error FROM sagas")).scalars()
    assert "begin_nested" in error["message"]


@pytest.mark.parametrize(("word", "ends"), [("undo", "undone"), ("leave", "done")])
def test_an_undo_is_left_out_whose_condition_says_no(throwaway, word, ends):
    def fail(_self, _db):
        raise ValueError

    act = step(lambda self, db: "done")
    undone = []
    act.compensation(when=lambda saga: saga.input.word == "undo")(lambda self, db: undone.append(self.results["act"]))
    handle = record(throwaway.kind(act=act, fail=step(irreversible=True)(fail)), {"word": word})
    assert throwaway.sweep(handle) == "compensated"
    assert states(handle) == {"act": ends, "fail": "failed"}
    assert undone == (["done"] if word == "undo" else [])
