"""The testing kit itself: each check finds a fault that was planted for it, says where, and shows the history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sagajobs import testing
from sagajobs.saga import faultpoints
from sagajobs.saga.act import Verdict
from sagajobs.saga.faultpoints import Work
from tests.support.sagas import World


@pytest.fixture
def planted(app_engine, clean):
    """The sagas, known to the engine, and nothing outside."""
    from tests.kit import planted

    World(app_engine).create()
    return planted


@pytest.fixture
def case(planted, saga_case, app_engine, monkeypatch):
    def make(kind: str):
        if kind == "NoTimeToLose":  # which an undisturbed one must have, however slow the machine is
            monkeypatch.setattr(app_engine.executor, "stall_after", 100.0)

        def request(_n: int) -> dict:
            return {"until": datetime.now(UTC) + timedelta(seconds=150)}

        def standing(saga_id: str) -> list[str]:
            world = World(app_engine)
            acts = world.acts(saga_id)
            return ["booking"] * (acts.count("book") - acts.count("cancel"))

        return saga_case(getattr(planted, kind), request=request, standing=standing)

    return make


BY_HAND = [check for check in testing.CHECKS if check is not testing.dies_at_every_point]


@pytest.mark.parametrize("kind", ["Plain", "Once"])
@pytest.mark.parametrize("check", BY_HAND, ids=testing.name)
def test_without_a_fault_it_passes(case, check, kind):
    check(case(kind))


@pytest.mark.parametrize(
    ("check", "kind", "says"),
    [
        (
            testing.every_step_fails,
            "UndoesNothing",
            ["confirm fails", "it was undone, and 1 stand outside", "step_failed            confirm #1"],
        ),
        (
            testing.every_step_runs_twice,
            "CallsOutside",
            ["dies before the commit of reserve", "1 more than after an undisturbed one", "step_completed"],
        ),
        (
            testing.every_undo_runs_twice,
            "UndoesOnce",
            ["dies before the commit of the undo of book", "(an undo failed: book)", "compensation_failed    book #2"],
        ),
        (
            testing.every_undo_fails,
            "HiddenFromUndo",
            ["the undo of book fails", "(an undo failed: book)", "review_closed          book"],
        ),
        (
            testing.every_call_succeeds_then_times_out,
            "FindsNothing",
            [
                "the call of book succeeds and times out",
                "1 more than after an undisturbed one",
                "step_unknown           book",
            ],
        ),
        (
            testing.every_message_lost,
            "NoTimeToLose",
            ["each message lost", "it is compensated, and should be completed", "DeadlineExceeded"],
        ),
        (
            testing.every_prefix_ends_well,
            "UndoesOnce",
            ["its history cut at after_call of book, cancelled after book", "(an undo failed: book)"],
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_fault_is_found(case, check, kind, says):
    tried = case(kind)
    with pytest.raises(AssertionError) as caught:
        check(tried)
    message = str(caught.value)
    assert message.startswith(f"saga {tried.kind.name}, ")
    assert [part for part in (*says, "saga_created") if part not in message] == [], message


def test_a_duplicate_that_is_taken_for_work_is_found(case, app_engine, monkeypatch):
    """No author can do this wrong: it is the engine's."""
    forward = app_engine.executor.forward

    def twice(kind, step, saga_id, **how):
        outcome = forward(kind, step, saga_id, **how)
        if outcome.verdict is Verdict.END and how["redelivered"]:
            faultpoints.work(Work.STEP, saga_id, step.name, lambda: None)
        return outcome

    monkeypatch.setattr(app_engine.executor, "forward", twice)
    with pytest.raises(AssertionError, match="a message that came when it was over had something done"):
        testing.every_message_duplicated(case("Plain"))


def test_what_a_death_brings_to_light_is_found(case):
    with pytest.raises(AssertionError) as caught:
        testing.dies_at_every_point(case("FindsNothing"))
    message = str(caught.value)
    assert "saga planted_finds_nothing, killed at after_call of book: 1 more than after an undisturbed one" in message
    assert "killed at after_call of confirm" not in message, "the others ended well"


def test_nothing_is_left_of_a_saga_that_failed_its_check(case, db, planted):
    with pytest.raises(AssertionError):
        testing.every_step_fails(case("UndoesNothing"))
    assert db.exec_driver_sql("SELECT count(*) FROM sagas").scalar_one() == 0
    assert db.exec_driver_sql("SELECT saga_now() - statement_timestamp() < interval '1 second'").scalar_one()


def test_the_clock_leaps_and_is_put_right(saga_stack, saga_clock, db):
    ahead = "SELECT extract(epoch FROM saga_now() - statement_timestamp())::float"
    saga_clock.leap(3600)
    saga_clock.leap(60)
    assert db.exec_driver_sql(ahead).scalar_one() == 3660
    saga_clock.put_right()
    assert db.exec_driver_sql(ahead).scalar_one() == 0
