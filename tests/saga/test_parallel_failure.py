"""Steps side by side of which one fails: what is in flight is settled, what was done is undone (SPEC 3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from sagajobs.errors import PermanentError, SagaException
from sagajobs.saga import step
from sagajobs.saga.act import Verdict
from sagajobs.saga.faultpoints import Point
from tests.support.sagas import QUICK, record, states
from tests.support.stages import begun, due_in, finish, standing, tried
from tests.support.wide import Wide


def test_one_fails_and_what_was_done_is_undone_and_what_was_not_begun_never_is(app_engine, world, forward):
    handle = begun(forward, script={"book[1]": ["permanent"]})
    forward(handle, "book[0]")
    forward(handle, "beside")
    assert forward(handle, "book[1]").verdict is Verdict.FAILED
    assert forward(handle, "book[2]").verdict is Verdict.END
    assert forward(handle, "extra").verdict is Verdict.END
    app_engine.drive(Wide, handle.id)
    assert states(handle) == {
        "start": "undone",
        "book[0]": "undone",
        "book[1]": "failed",
        "book[2]": "waiting",
        "beside": "undone",
        "extra": "waiting",
        "last": "waiting",
    }
    assert handle.status() == "compensated"
    assert handle.record().failed_step == "book[1]"
    assert standing(world, handle) == []
    assert (tried(world, handle, "book[2]"), tried(world, handle, "extra")) == (0, 0)
    undone = [name for name in world.local(handle.id) if name.startswith(("undo", "note_cancel"))]
    assert undone == ["undo_beside", "note_cancel[0]", "undo_start"], "newest first"


def test_a_caller_is_told_which_one_failed(world):
    with pytest.raises(SagaException) as caught:
        Wide.run({"script": {"book[2]": ["permanent"]}})
    assert caught.value.failed_step == "book[2]"
    assert isinstance(caught.value.__cause__, PermanentError)
    assert [world.stands(f"{caught.value.saga_id}/book[{item}]") for item in range(3)] == [False] * 3


def test_one_in_flight_is_waited_for_and_what_it_then_did_is_undone(app_engine, world, forward, at, db):
    handle = begun(forward, items=2, script={"book[1]": ["permanent"]})
    forward(handle, "beside")
    waits: list[float] = []

    def one_fails_meanwhile() -> None:
        assert forward(handle, "book[1]").verdict is Verdict.FAILED
        outcome = app_engine.executor.compensate(Wide, handle.id)
        assert outcome.verdict is Verdict.LATER
        waits.append(outcome.wait)
        assert states(handle)["beside"] == "done", "nothing is undone while one of its stage may still happen"

    at(Point.AFTER_CLAIM, "book[0]", one_fails_meanwhile)
    assert forward(handle, "book[0]").verdict is Verdict.FAILED, "so that its errback is called"
    assert 0 < waits[0] <= Wide.definition.step("book[0]").lease
    assert states(handle)["book[0]"] == "done"
    assert due_in(db, handle) <= 0, "the sweep is told as well"
    app_engine.drive(Wide, handle.id)
    assert handle.status() == "compensated"
    assert (world.acts(handle.id).count("book"), world.acts(handle.id).count("cancel")) == (1, 1)


@pytest.mark.parametrize("how", ["transient", "deferred", "permanent", "timeout", "book+timeout"])
def test_one_in_flight_that_does_not_succeed_is_settled_too(app_engine, world, forward, at, how):
    handle = begun(forward, items=2, script={"book[1]": ["permanent"], "book[0]": [how]})
    at(Point.AFTER_CLAIM, "book[0]", lambda: forward(handle, "book[1]"))
    forward(handle, "book[0]")
    app_engine.drive(Wide, handle.id)
    assert handle.status() == "compensated"
    assert tried(world, handle, "book[0]") == 1, "never again once the saga has turned round"
    assert standing(world, handle) == []
    assert handle.record().failed_step == "book[1]", "the one that turned it round, not the one that failed after it"


def test_a_local_one_in_flight_is_taken_back_whole(app_engine, world, forward, at):
    handle = begun(forward, items=1, script={"book[0]": ["permanent"]})
    at(Point.AFTER_CALL, "beside", lambda: forward(handle, "book[0]"))
    assert forward(handle, "beside").verdict is Verdict.END
    assert states(handle)["beside"] == "waiting"
    assert "beside" not in world.local(handle.id)
    app_engine.drive(Wide, handle.id)
    assert handle.status() == "compensated"


def test_one_about_to_be_claimed_when_the_saga_is_undone_is_not_begun(throwaway, app_engine, forward):
    """Between the look and the claim another one fails, and everything is undone: a call now would be an orphan."""
    called: list[int] = []
    meanwhile: list[Callable[[], object]] = []

    def fail_the_other(_saga) -> float:
        if meanwhile:
            meanwhile.pop()()
        return 0.0

    def call(_saga, _key, item: int) -> int:
        if item == 1:
            raise PermanentError
        called.append(item)
        return item

    several = step(external=True, idempotent=True, each=lambda _saga: 2, hold=fail_the_other)(call)
    several.compensation(lambda _saga, _result, _item: None)
    kind = throwaway.kind(first=step(irreversible=True)(lambda _saga, _db: None), several=several)
    handle = record(kind, {})
    forward(handle, "first", kind)

    def undo_all() -> None:
        assert forward(handle, "several[1]", kind).verdict is Verdict.FAILED
        app_engine.executor.compensate(kind, handle.id)
        assert handle.status() == "compensated"

    meanwhile.append(undo_all)
    assert forward(handle, "several[0]", kind).verdict is Verdict.END
    assert called == []
    assert states(handle)["several[0]"] == "waiting"


def test_two_fail_and_the_first_one_is_to_blame(app_engine, world, forward, at):
    handle = begun(forward, items=2, script={"book[0]": ["permanent"], "book[1]": ["permanent"]})
    at(Point.AFTER_CLAIM, "book[1]", lambda: forward(handle, "book[0]"))
    assert forward(handle, "book[1]").verdict is Verdict.FAILED
    assert handle.record().failed_step == "book[0]"
    app_engine.drive(Wide, handle.id)
    assert handle.status() == "compensated"


def test_one_that_killed_its_workers_is_not_asked_about_once_the_saga_is_undone(throwaway, app_engine, forward):
    """Its attempts are used up in the moment in which another one fails: the undo repeats it, to know what stands."""
    calls: list[int] = []
    meanwhile: list[Callable[[], object]] = []

    def call(_saga, _key, item: int) -> int:
        calls.append(item)
        if item == 1:
            raise PermanentError
        return item

    undone: list[int] = []
    several = step(external=True, idempotent=True, each=lambda _saga: 2, retry=QUICK)(call)
    several.compensation(lambda _saga, result, item: undone.append(item))
    kind = throwaway.kind(first=step(irreversible=True)(lambda _saga, _db: None), several=several)
    handle = record(kind, {})
    forward(handle, "first", kind)
    with app_engine.database.transaction() as connection:
        connection.execute(
            text("UPDATE saga_steps SET state = 'running', attempts = 3 WHERE saga_id = :id AND name = 'several[0]'"),
            {"id": handle.id},
        )
    step_0 = kind.definition.step("several[0]")

    class Meanwhile:
        """Exhausting looks at the policy once more, after the look and before the write."""

        def __bool__(self) -> bool:
            if meanwhile:
                meanwhile.pop()()
            return False

    meanwhile.append(lambda: forward(handle, "several[1]", kind))
    step_0.optional = Meanwhile()
    assert app_engine.executor.forward(kind, step_0, handle.id).verdict is Verdict.END
    assert handle.status() == "compensating"
    app_engine.drive(kind, handle.id)
    assert handle.status() == "compensated"
    assert calls == [1, 0]
    assert undone == [0]


def test_the_last_undo_of_all_can_be_one_of_several(throwaway, app_engine):
    several = step(each=lambda _saga: 2)(lambda _saga, _db, item: item)
    several.compensation(lambda _saga, _db, item: item)
    kind = throwaway.kind(several=several, fail=step(irreversible=True)(lambda _saga, _db: 1 / 0))
    assert throwaway.sweep(record(kind, {})) == "compensated"


@pytest.mark.parametrize("script", [{"last": ["bug"], "cancel[1]": ["permanent"]}, {"beside": ["die"]}])
def test_one_of_several_is_what_a_person_is_asked_about(app_engine, world, forward, db, script):
    handle = begun(forward, items=2, script=script)
    if "last" in script:
        app_engine.drive(Wide, handle.id)
    else:
        with app_engine.database.transaction() as connection:
            connection.execute(text("UPDATE saga_steps SET attempts = 3 WHERE name = 'beside'"))
        forward(handle, "beside")
        forward(handle, "book[0]")
    assert handle.status() == "manual_review_required"
    asked = db.execute(text("SELECT c.step, g.next_at FROM review_cases c JOIN sagas g ON g.id = c.saga_id")).all()
    assert asked == [("book[1]" if "last" in script else "beside", None)]


def test_one_that_comes_back_while_a_person_is_asked_about_another_calls_nobody(app_engine, world, forward, at, caplog):
    handle = begun(forward, items=2, script={"book[0]": ["book+timeout"]})
    forward(handle, "book[0]")
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE saga_steps SET probes = 99, due_at = NULL WHERE name = 'book[0]'"))
    at(Point.AFTER_CLAIM, "book[1]", lambda: forward(handle, "book[0]"))
    forward(handle, "book[1]")
    assert handle.status() == "manual_review_required"
    assert states(handle)["book[1]"] == "done"
    alerts = [record.step for record in caplog.records if record.levelname == "CRITICAL"]
    assert alerts == ["book[0]"]


def test_a_later_stage_is_undone_before_an_earlier_one_though_the_clock_was_set_back(
    app_engine, world, forward, broker
):
    """As after a fail-over: what stands in the table says that the step that was done first was done last."""
    handle = begun(forward, items=2, script={"last": ["bug"]})
    with app_engine.database.transaction() as connection:
        connection.execute(
            text("UPDATE saga_steps SET finished_at = finished_at + interval '1 h' WHERE name = 'start'")
        )
    finish(app_engine, broker, handle)
    assert handle.status() == "compensated"
    assert [act for act in world.acts(handle.id) if act.startswith("try:undo_") or "cancel" in act][-1] == (
        "try:undo_start"
    )


def test_an_optional_one_fails_and_the_saga_goes_on(world, forward, app_engine):
    handle = begun(forward, script={"extra": ["bug"]})
    app_engine.drive(Wide, handle.id)
    assert handle.status() == "completed"
    assert states(handle)["extra"] == "failed"
    assert "extra" not in world.local(handle.id)


def test_one_that_is_left_out_counts_as_over(world, forward, app_engine):
    handle = begun(forward, skip=True)
    app_engine.drive(Wide, handle.id)
    assert (handle.status(), states(handle)["extra"]) == ("completed", "skipped")
