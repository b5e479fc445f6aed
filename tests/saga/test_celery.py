"""Sagas carried by Celery: real workers in their own processes, and the ways in which Celery never calls an errback."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs.errors import SagaException
from sagajobs.root import app
from tests.support.sagas import Scripted, record
from tests.support.versioned import Former, Present

pytestmark = pytest.mark.usefixtures("world")


def tried(world, handle, what: str) -> int:
    return world.acts(handle.id).count(f"try:{what}")


def test_happy_path(worker, world):
    handle = Scripted.enqueue({})
    assert handle.wait(90) == "completed"
    assert world.local(handle.id) == ["first", "note_call", "extra", "last"]
    assert handle.result()["last"] == 42


def test_a_failure_is_undone_by_the_errback(worker, world):
    handle = Scripted.enqueue({"script": {"last": ["bug"]}})
    assert handle.wait(90) == "compensated"
    assert not world.stands(f"{handle.id}/call")
    with pytest.raises(SagaException, match="failed at step last"):
        handle.result()


def test_retries_probes_and_undo_retries_come_back_through_the_sweep(worker, world):
    handle = Scripted.enqueue(
        {
            "script": {
                "first": ["transient", "ok"],
                "call": ["book+timeout"],
                "last": ["bug"],
                "cancel": ["timeout", "ok"],
            }
        }
    )
    assert handle.wait(90) == "compensated"
    assert world.acts(handle.id).count("book") == 1
    assert world.acts(handle.id).count("cancel") == 1


@pytest.mark.siege
def test_forty_sagas_at_once_each_once(worker, world):
    scripts = [{}, {"last": ["bug"]}, {"call": ["book+timeout"]}, {"call": ["permanent"]}]
    handles = [Scripted.enqueue({"script": scripts[n % 4]}) for n in range(40)]
    ends = [handle.wait(90) for handle in handles]
    assert ends == ["completed", "compensated", "completed", "compensated"] * 10
    assert world.acts().count("book") == 30
    assert world.acts().count("cancel") == 10


def test_workers_finish_what_a_former_version_began_step_by_step_of_its_own(worker, world):
    former, present = (kind.enqueue({"count": 3}) for kind in (Former, Present))
    lost = record(Former, {})
    assert [handle.wait(90) for handle in (former, present, lost)] == ["completed"] * 3
    outputs = [{name: one.output for name, one in one.record().steps.items()} for one in (former, present, lost)]
    parts = ["begin", *(f"part[{n}]" for n in range(3))]
    assert outputs[0] == dict.fromkeys((*parts, "close"), 1)
    assert outputs[1] == dict.fromkeys((*parts, "finish"), 2)
    assert set(outputs[2].values()) == {1}
    assert world.acts(former.id).count("book") == world.acts(present.id).count("book") == 3


def test_a_lost_first_message_is_sent_again(worker, world):
    handle = record(Scripted, {})
    assert handle.wait(90) == "completed"


def test_every_message_twice_changes_nothing(worker, world):
    handles = [Scripted.enqueue({"script": script}) for script in ({}, {"last": ["bug"]})]
    while any(handle.status() not in ("completed", "compensated") for handle in handles):
        for handle in handles:
            for step in Scripted.definition.steps:
                app.tasks[f"scripted.{step.name}"].si(saga_id=handle.id).set(queue="saga.steps").apply_async()
            app.tasks["scripted.compensate"].si(saga_id=handle.id).set(queue="saga.compensate").apply_async()
    assert [handle.status() for handle in handles] == ["completed", "compensated"]
    assert world.acts(handles[0].id).count("book") == 1
    assert (world.acts(handles[1].id).count("book"), world.acts(handles[1].id).count("cancel")) == (1, 1)
    assert world.local(handles[0].id) == ["first", "note_call", "extra", "last"]


def test_steps_in_the_wrong_order_do_nothing(worker, world, app_engine):
    handle = record(Scripted, {})
    for name in ("last", "extra", "call", "compensate"):
        app.tasks[f"scripted.{name}"].si(saga_id=handle.id).set(queue="saga.steps").apply_async()
    assert handle.wait(90) == "completed"
    assert world.local(handle.id) == ["first", "note_call", "extra", "last"]


def test_a_message_for_a_saga_that_never_was_is_dropped(worker, world):
    nobody = "00000000-0000-0000-0000-000000000000"
    app.tasks["scripted.first"].si(saga_id=nobody).set(queue="saga.steps").apply_async()
    handle = Scripted.enqueue({})
    assert handle.wait(90) == "completed"


# --- Celery never calls an errback when … ---


def _published(world, handle, **options) -> None:
    """Publish the chain of a saga as the engine does, with options on its first message."""
    first = app.tasks["scripted.first"].si(saga_id=handle.id).set(queue="saga.steps")
    undo = app.tasks["scripted.compensate"].si(saga_id=handle.id).set(queue="saga.compensate")
    (first | app.tasks["scripted.call"].si(saga_id=handle.id).set(queue="saga.steps")).on_error(undo).apply_async(
        **options
    )


def test_a_step_is_revoked(worker, world):
    handle = record(Scripted, {})
    app.control.revoke("revoked-message")
    _published(world, handle, task_id="revoked-message")
    assert handle.wait(90) == "completed"


def test_a_step_expires_in_the_queue(worker, world):
    handle = record(Scripted, {})
    _published(world, handle, expires=-1)
    assert handle.wait(90) == "completed"


def test_a_worker_does_not_know_the_task(worker, world):
    handle = record(Scripted, {})
    app.send_task("scripted.step_of_tomorrow", kwargs={"saga_id": handle.id}, queue="saga.steps")
    assert handle.wait(90) == "completed"


def test_a_message_is_malformed(worker, world):
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        for body in ("not json {", "[]", '{"saga_id": 1}'):
            message = channel.prepare_message(body, content_type="application/json", content_encoding="utf-8")
            channel.basic_publish(message, exchange="", routing_key=app.amqp.queues["saga.steps"].name)
    handle = Scripted.enqueue({})
    assert handle.wait(90) == "completed"


def test_a_step_is_killed_in_its_work(worker, world):
    handle = Scripted.enqueue({"script": {"first": ["die", "ok"]}})
    assert handle.wait(90) == "completed"
    assert world.local(handle.id).count("first") == 1


def test_a_step_leaves_its_process(worker, world):
    handle = Scripted.enqueue({"script": {"first": ["exit", "ok"]}})
    assert handle.wait(90) == "completed"
    assert world.local(handle.id).count("first") == 1


@pytest.mark.parametrize("how", ["sleep", "hang"], ids=["soft limit", "hard limit, whose errback is called twice"])
def test_a_step_comes_to_its_time_limit_after_it_has_booked(worker, world, how):
    handle = Scripted.enqueue({"script": {"call": [f"book+{how}"]}})
    assert handle.wait(90) == "completed"
    assert world.acts(handle.id).count("book") == 1
    assert tried(world, handle, "cancel") == 0


def test_the_errback_is_not_registered(worker, world):
    """As when an older worker gets a newer one's message."""
    handle = record(Scripted, {"script": {"first": ["ok"], "call": ["permanent"]}})
    steps = [app.tasks[f"scripted.{name}"].si(saga_id=handle.id).set(queue="saga.steps") for name in ("first", "call")]
    unknown = app.signature("scripted.undo_of_tomorrow", kwargs={"saga_id": handle.id}, immutable=True)
    (steps[0] | steps[1]).on_error(unknown.set(queue="saga.compensate")).apply_async()
    assert handle.wait(90) == "compensated"


@pytest.mark.parametrize("what", ["first", "call"])
def test_a_poison_step_goes_to_manual_review_after_exactly_its_attempts(worker, world, db, app_engine, what):
    handle = record(Scripted, {"script": {what: ["die"]}})
    with app_engine.database.transaction() as connection:
        # No hint of the sweep before the first delivery: it would count as one, as nobody can tell late from dead.
        connection.execute(text("UPDATE sagas SET next_at = saga_now() + interval '60 s'"))
    app_engine.hint(Scripted, handle.id)
    assert handle.wait(90) == "manual_review_required"
    assert db.execute(text("SELECT reason FROM review_cases")).scalar_one() == "every attempt died at work"
    assert tried(world, handle, what) == 3
    assert worker.alive
