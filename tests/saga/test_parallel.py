"""Steps side by side: begun together, joined once, undone together, whoever dies and whatever is lost (SPEC 3, 8)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, create_engine, event, text

from sagajobs.errors import InvalidInput, PermanentError, SagaException, TransientError
from sagajobs.saga import Database, RetryPolicy, faultpoints, step
from sagajobs.saga.act import Outcome, Verdict
from sagajobs.saga.faultpoints import Point
from sagajobs.saga.sweep import recover
from tests.support.broker import HandBroker
from tests.support.sagas import QUICK, record
from tests.support.waiting import wait_for
from tests.support.wide import Wide

SIDE_BY_SIDE = ["book[0]", "book[1]", "book[2]", "beside", "extra"]
STEPS = ["start", *SIDE_BY_SIDE, "last"]


@pytest.fixture
def at() -> Iterator[Callable[..., None]]:
    """Have something happen, once, when this process comes to a point of a step."""
    plans: dict[tuple[Point, str], Callable[[], None]] = {}

    def hook(point: Point, _saga_id: str, step: str) -> None:
        act = plans.pop((point, step), None)
        if act is not None:
            act()

    def plan(point: Point, step: str, act: Callable[[], None]) -> None:
        plans[point, step] = act

    faultpoints.install(hook)
    yield plan
    faultpoints.install(None)
    assert plans == {}, "every planned act came about"


@pytest.fixture
def broker(app_engine, world, monkeypatch) -> HandBroker:
    broker = HandBroker(app_engine)
    monkeypatch.setattr(app_engine, "publisher", broker)
    return broker


@pytest.fixture
def forward(app_engine, world) -> Callable[..., Outcome]:
    def deliver(handle, name: str, kind=Wide, **how) -> Outcome:
        return app_engine.executor.forward(kind, kind.definition.step(name), handle.id, **how)

    return deliver


def begun(forward, **request):
    """A saga that stands where several of its steps may run."""
    handle = record(Wide, request)
    assert forward(handle, "start").following == tuple(handle.record().in_stage(1))
    return handle


def states(handle) -> dict[str, str]:
    return {name: str(step.state) for name, step in handle.record().steps.items()}


def tried(world, handle, what: str) -> int:
    return world.acts(handle.id).count(f"try:{what}")


def standing(world, handle) -> list[int]:
    return [item for item in range(10) if world.stands(f"{handle.id}/book[{item}]")]


def due_in(db, handle) -> float:
    return float(
        db.execute(
            text("SELECT extract(epoch FROM next_at - saga_now()) FROM sagas WHERE id = :id"), {"id": handle.id}
        ).scalar_one()
    )


def _let_time_pass(app_engine) -> None:
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now() WHERE next_at IS NOT NULL"))
        connection.execute(
            text(
                "UPDATE saga_steps SET lease_until = NULL, due_at = NULL, "
                "absent_since = absent_since - interval '1 minute'"
            )
        )


def finish(app_engine, broker, *handles, rounds: int = 40) -> None:
    """Drain and sweep, as if much time passed in between, until all are at rest."""
    for _ in range(rounds):
        broker.drain()
        if all(handle.status() in ("completed", "compensated", "manual_review_required") for handle in handles):
            return
        _let_time_pass(app_engine)
        recover(app_engine)
    raise AssertionError(f"still under way: {[handle.status() for handle in handles]}")


# --- going forward ---


def test_all_of_a_stage_come_after_what_stands_before_it_and_before_what_follows(world):
    assert Wide.run({})["last"] == [0, 1, 2]
    acts = [act for act in world.acts() if act.startswith("try:")]
    assert acts[0] == "try:start"
    assert acts[-1] == "try:last"
    assert Counter(acts) == Counter(f"try:{name}" for name in STEPS if not name.startswith("book")) + Counter(
        {f"try:note_{name}": 1 for name in STEPS if name.startswith("book")}
        | {f"try:{name}": 1 for name in STEPS if name.startswith("book")}
    )


def test_a_caller_carries_them_out_at_the_same_time(throwaway):
    """Each waits within the step until all are in: one after the other, none would ever come out."""
    all_in = threading.Barrier(6)

    def meet(_saga, _key, item: int) -> int:
        all_in.wait(20)
        return item

    def meet_too(_saga, _db) -> None:
        all_in.wait(20)

    kind = throwaway.kind(
        first=step(irreversible=True)(lambda _saga, _db: None),
        several=step(external=True, irreversible=True, idempotent=True, each=lambda _saga: 5)(meet),
        beside=step(irreversible=True, parallel=True)(meet_too),
    )
    assert kind.run({})["several"] == {item: item for item in range(5)}


def test_more_than_the_pool_has_connections_run_at_the_same_time(throwaway):
    all_in = threading.Barrier(40)
    kind = throwaway.kind(
        several=step(external=True, irreversible=True, idempotent=True, each=lambda _saga: 40)(
            lambda _saga, _key, item: all_in.wait(20) and item
        ),
    )
    assert len(kind.run({})["several"]) == 40


SCRIPTS = {
    "all goes well": ({}, "completed"),
    "tried again": (
        {"start": ["transient", "ok"], "book[0]": ["transient", "ok"], "beside": ["transient", "ok"]},
        "completed",
    ),
    "looked for": ({"book[0]": ["book+timeout"], "book[1]": ["timeout", "ok"]}, "completed"),
    "undone": ({"last": ["bug"], "cancel[0]": ["timeout", "ok"], "undo_beside": ["transient", "ok"]}, "compensated"),
    "failed in a stage": ({"book[1]": ["permanent"], "cancel[0]": ["transient", "ok"]}, "compensated"),
}


@pytest.mark.parametrize(("script", "end"), SCRIPTS.values(), ids=SCRIPTS.keys())
def test_nobody_holds_one_connection_while_he_asks_for_another(app_engine, world, monkeypatch, script, end):
    """With a single connection everything goes on: else many at once would use up the pool, and wait for ever."""
    single = create_engine(app_engine.database.engine.url, pool_size=1, max_overflow=0, pool_timeout=5)
    handle = record(Wide, {"script": script})
    world_s_own = Database(world._database._url)
    with monkeypatch.context() as patch:
        patch.setattr(world, "_database", world_s_own)
        patch.setattr(app_engine.database, "_engine", single)
        ended, _ = app_engine.drive(Wide, handle.id)
    single.dispose()
    world_s_own.close()
    assert ended.state == end


def test_too_many_or_none_are_refused_before_anything_is_written(world, db):
    for items in (0, 101):
        with pytest.raises(InvalidInput, match="for 1 to 100 items"):
            Wide.enqueue({"items": items})
    assert db.execute(text("SELECT count(*) FROM sagas")).scalar_one() == 0


def test_a_stage_can_be_the_first_and_the_last(throwaway, app_engine, monkeypatch):
    kind = throwaway.kind(
        several=step(irreversible=True, each=lambda _saga: 3)(lambda _saga, _db, item: item),
    )
    broker = HandBroker(app_engine)
    monkeypatch.setattr(app_engine, "publisher", broker)
    handle = kind.enqueue({})
    assert [message.step for message in broker.messages] == ["several[0]", "several[1]", "several[2]"]
    finish(app_engine, broker, handle)
    assert handle.result() == {"several": {0: 0, 1: 1, 2: 2}}


# --- the join ---


def test_of_two_that_are_done_in_the_same_instant_one_carries_on(app_engine, world, forward, at, db):
    """Both have done their work before either one writes."""
    handle = begun(forward, items=2, skip=True)
    for name in ("beside", "extra"):
        forward(handle, name)
    both = threading.Barrier(2)
    for item in range(2):
        at(Point.AFTER_CALL, f"book[{item}]", lambda: both.wait(10))
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda item: forward(handle, f"book[{item}]"), range(2)))
    assert sorted(outcome.verdict for outcome in outcomes) == [Verdict.CARRY_ON, Verdict.END]
    assert handle.record().stage == 2
    app_engine.drive(Wide, handle.id)
    assert tried(world, handle, "last") == 1


def test_the_second_one_waits_for_the_firsts_commit_and_then_carries_on(app_engine, world, forward, at, db):
    """The first has written and not committed; the second must count on what he will have left."""
    handle = begun(forward, items=2, skip=True)
    for name in ("beside", "extra"):
        forward(handle, name)
    claimed, go_on = threading.Event(), threading.Event()

    def blocked() -> bool:
        waits = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE saga_steps%'"
        )
        return bool(db.execute(text(waits)).scalar_one())

    def the_first_has_written() -> None:
        go_on.set()
        wait_for(blocked)

    at(Point.AFTER_CLAIM, "book[1]", lambda: claimed.set() or go_on.wait(10))
    at(Point.BEFORE_COMMIT, "book[0]", the_first_has_written)
    with ThreadPoolExecutor(1) as thread:
        second = thread.submit(forward, handle, "book[1]")
        assert claimed.wait(10)
        first = forward(handle, "book[0]")
    assert (first.verdict, second.result().verdict) == (Verdict.END, Verdict.CARRY_ON)
    app_engine.drive(Wide, handle.id)
    assert tried(world, handle, "last") == 1


def test_whoever_is_redelivered_after_the_join_carries_on_while_nobody_else_has(app_engine, world, forward):
    handle = begun(forward, items=1, skip=True)
    verdicts = [forward(handle, name).verdict for name in ("book[0]", "beside", "extra")]
    assert verdicts == [Verdict.END, Verdict.END, Verdict.CARRY_ON]
    assert forward(handle, "extra").verdict is Verdict.END, "a mere duplicate does not"
    assert forward(handle, "extra", redelivered=True).verdict is Verdict.CARRY_ON
    app_engine.drive(Wide, handle.id)
    assert forward(handle, "extra", redelivered=True).verdict is Verdict.END


# --- a failure ---


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


# --- waiting, and the sweep ---


@pytest.mark.parametrize("what", ["book[1]", "beside"])
@pytest.mark.parametrize("how", ["transient", "deferred"])
@pytest.mark.parametrize("first", [True, False], ids=["fails first", "fails last"])
def test_the_sweep_looks_when_one_is_due_whatever_the_others_do(
    world, forward, app_engine, db, monkeypatch, what, how, first
):
    patient = RetryPolicy(max_attempts=3, base=2.0, jitter=0.0, deferral=2.0)
    declared = next(step for step in Wide.definition.steps if step.name == what.partition("[")[0])
    monkeypatch.setattr(declared, "retry", patient)
    monkeypatch.setattr(app_engine.executor, "stall_after", 600.0)
    handle = begun(forward, script={what: [how, "ok"]})
    others = [name for name in SIDE_BY_SIDE if name != what]
    for name in [what, *others] if first else [*others, what]:
        forward(handle, name)
    assert 0 < due_in(db, handle) <= 2.0
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now()"))
    sent: list[tuple[str, ...]] = []
    monkeypatch.setattr(HandBroker, "steps", lambda _broker, _kind, _id, names: sent.append(tuple(names)))
    monkeypatch.setattr(app_engine, "publisher", HandBroker(app_engine))
    recover(app_engine)
    assert sent == [(what,)], "only at what is open"
    assert due_in(db, handle) <= 2.0
    app_engine.drive(Wide, handle.id)
    assert handle.status() == "completed"


def test_one_that_is_held_back_does_not_put_off_the_others(throwaway, app_engine, forward, db):
    """The circuit is open for a minute: what a sibling waits for in a second is not put off for that."""
    waits = {0: 60.0, 1: 0.0}
    tries: list[int] = []

    def call(_saga, _key, item: int) -> int:
        tries.append(item)
        if tries.count(item) == 1:
            raise TransientError
        return item

    several = step(
        external=True,
        irreversible=True,
        idempotent=True,
        each=lambda _saga: 2,
        retry=RetryPolicy(base=1.0, jitter=0.0),
        hold=lambda _saga: waits[len(held)] if len(held) < 2 else 0.0,
    )(call)
    held: list[int] = []
    kind = throwaway.kind(first=step(irreversible=True)(lambda _saga, _db: None), several=several)
    handle = record(kind, {})
    forward(handle, "first", kind)
    held.append(1)  # `hold` says 0 s: it is tried, and fails
    forward(handle, "several[1]", kind)
    held.clear()  # `hold` says 60 s
    assert forward(handle, "several[0]", kind).wait == 60.0
    assert due_in(db, handle) <= 1.0
    assert handle.record().steps["several[0]"].attempts == 0
    held += [1, 1]
    throwaway.sweep(handle)
    assert handle.status() == "completed"


def test_paused_in_the_middle_what_is_in_flight_is_recorded_and_nothing_is_begun(app_engine, world, forward, at, db):
    handle = begun(forward, items=2, skip=True)

    def pause() -> None:
        with app_engine.database.transaction() as connection:
            connection.execute(
                text("UPDATE sagas SET state = 'paused', paused_from = state, next_at = NULL WHERE id = :id"),
                {"id": handle.id},
            )

    at(Point.AFTER_CLAIM, "book[0]", pause)
    assert forward(handle, "book[0]").verdict is Verdict.END
    assert [forward(handle, name).verdict for name in ("book[1]", "beside", "extra")] == [Verdict.END] * 3
    assert states(handle) == {
        "start": "done",
        "book[0]": "done",
        "book[1]": "waiting",
        "beside": "waiting",
        "extra": "waiting",
        "last": "waiting",
    }
    assert (handle.status(), tried(world, handle, "book[1]")) == ("paused", 0)
    with app_engine.database.transaction() as connection:
        connection.execute(
            text("UPDATE sagas SET state = paused_from, paused_from = NULL, next_at = saga_now() WHERE id = :id"),
            {"id": handle.id},
        )
    app_engine.drive(Wide, handle.id)
    assert (handle.status(), tried(world, handle, "book[0]"), tried(world, handle, "last")) == ("completed", 1, 1)


# --- messages ---


def test_n_steps_cost_n_messages_and_1_l_2e_commits(app_engine, world, broker, monkeypatch):
    own = Database(world._database._url)
    monkeypatch.setattr(world, "_database", own)  # what is done outside is not counted
    commits: list[object] = []

    def count(connection) -> None:
        if connection.engine is app_engine.database.engine:
            commits.append(connection)

    event.listen(Engine, "commit", count)
    try:
        handle = Wide.enqueue({})
        delivered = 0
        while broker.messages:
            broker.deliver(0)
            delivered += 1
    finally:
        event.remove(Engine, "commit", count)
        own.close()
    assert handle.status() == "completed"
    assert delivered == len(STEPS)
    local, external = 4, 3
    assert len(commits) == 1 + local + 2 * external


@pytest.mark.parametrize("script", [{}, {"book[1]": ["permanent"]}, {"last": ["bug"]}], ids=["done", "failed", "late"])
def test_every_message_twice_changes_nothing(app_engine, world, broker, script):
    handle = Wide.enqueue({"script": script})
    seen = []
    while broker.messages:
        seen.append(broker.messages[0])
        broker.deliver(0)
        broker.messages.insert(0, seen[-1])
        broker.deliver(0)
    finish(app_engine, broker, handle)
    _each_once(world, handle, script)
    broker.messages += seen  # and all of them a third time, late
    broker.drain()
    _each_once(world, handle, script)


def _each_once(world, handle, script) -> None:
    """Assert that a saga has ended as it must, each thing done and undone once."""
    acts = world.acts(handle.id)
    assert handle.status() == ("compensated" if script else "completed")
    assert standing(world, handle) == ([] if script else [0, 1, 2])
    assert acts.count("book") == acts.count("cancel") if script else acts.count("book") == 3
    local = Counter(world.local(handle.id))
    assert max(local.values()) == 1
    assert ("last" in local) == (not script)
    assert (local["undo_start"], local["undo_beside"]) == ((1, local["beside"]) if script else (0, 0))


@pytest.mark.parametrize("script", [{}, {"book[1]": ["permanent"]}, {"last": ["bug"]}], ids=["done", "failed", "late"])
def test_any_message_lost_costs_time_only(app_engine, world, broker, script):
    for lost in range(12):
        handle = Wide.enqueue({"script": script})
        for _ in range(lost):
            if broker.messages:
                broker.deliver(0)
        if not broker.messages:
            break
        broker.lose(0)
        finish(app_engine, broker, handle)
        _each_once(world, handle, script)
    assert lost > len(SIDE_BY_SIDE)


@pytest.mark.parametrize("point", list(Point))
@pytest.mark.parametrize(
    ("script", "least"),
    [({}, len(STEPS)), ({"book[1]": ["permanent"]}, 2), ({"last": ["bug"]}, len(STEPS) - 1)],
    ids=["done", "failed", "late"],
)
def test_a_worker_dies_anywhere_with_any_message(app_engine, world, broker, script, least, point):
    """At most points whoever fails, or finds nothing to do any more, never comes past; hence `least`."""
    deaths = 0
    for dies in range(12):
        handle = Wide.enqueue({"script": script})
        for _ in range(dies):
            if broker.messages:
                broker.deliver(0)
        if not broker.messages:
            break
        broker.deliver(0, dies_at=point)
        deaths, broker.deaths = deaths + broker.deaths, 0
        finish(app_engine, broker, handle)
        _each_once(world, handle, script)
    assert deaths >= least


# --- real workers ---


def test_carried_by_celery(worker, world):
    handles = [Wide.enqueue({"script": script}) for script in ({}, {"book[1]": ["permanent"]}, {"last": ["bug"]})]
    assert [handle.wait(30) for handle in handles] == ["completed", "compensated", "compensated"]
    for handle, script in zip(handles, ({}, 1, 1), strict=True):
        _each_once(world, handle, script)


def test_fifty_at_once_each_once(worker, world):
    scripts: list[dict] = [{}, {"book[2]": ["permanent"]}, {"book[0]": ["book+timeout"]}, {"beside": ["bug"]}, {}]
    handles = [Wide.enqueue({"script": scripts[n % 5]}) for n in range(50)]
    assert [handle.wait(90) for handle in handles] == [
        "completed",
        "compensated",
        "completed",
        "compensated",
        "completed",
    ] * 10
    assert [standing(world, handle) for handle in handles[:5]] == [[0, 1, 2], [], [0, 1, 2], [], [0, 1, 2]]
    assert all(tried(world, handle, "last") == (handle.status() == "completed") for handle in handles)
