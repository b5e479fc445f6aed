"""Those who look on hear of all that is done for a saga, and can do it no harm."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from sagajobs.errors import SagaException
from sagajobs.saga import SagaOrchestrator
from sagajobs.saga.sweep import recover
from sagajobs.saga.sweeps import Swept
from sagajobs.saga.sweeps.sweep import Sweep, run
from sagajobs.saga.watching import Watcher
from sagajobs.testing.clock import Clock
from tests.support.sagas import Scripted, record


class Recorder(Watcher):
    """Keeps what it hears; gives each saga a trace."""

    def __init__(self) -> None:
        self.heard: list[tuple] = []
        self.unforeseen: list[str] = []

    @contextmanager
    def doing(self, doing):
        self.heard.append((doing.what, doing.step, doing.attempt, doing.trace))
        try:
            yield f"trace of {doing.saga_id}"
        except Exception as error:
            if not doing.foreseen(error):
                self.unforeseen.append(type(error).__name__)
            raise

    def swept(self, sweep, noted):
        self.heard.append((sweep.name, noted.found, noted.first))

    def broke_off(self, sweep, error):
        self.heard.append((sweep.name, type(error).__name__))


class Clumsy(Watcher):
    """Fails at everything."""

    def __init__(self, *, when: str) -> None:
        self._when = when

    @contextmanager
    def doing(self, doing):
        if self._when == "before":
            raise RuntimeError(doing.saga_id)
        yield None
        raise RuntimeError(doing.saga_id)

    def swept(self, sweep, noted):
        raise RuntimeError(sweep.name)


@pytest.fixture
def watching(app_engine):
    """Have somebody look on until the test ends."""
    joined: list[Watcher] = []

    def join(watcher):
        app_engine.watchers.join(watcher)
        joined.append(watcher)
        return watcher

    yield join
    for watcher in joined:
        app_engine.watchers.leave(watcher)


def test_they_hear_of_start_hint_steps_probes_and_undos_with_the_trace_of_the_start(
    world, app_engine, watching, monkeypatch
):
    recorder = watching(Recorder())

    class Hints:
        def steps(self, kind, saga_id, names):
            pass

    handle = record(Scripted, {"script": {"first": ["bug"]}})
    with app_engine.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE sagas SET next_at = saga_now()")
    monkeypatch.setattr(app_engine, "publisher", Hints())
    assert recover(app_engine) == 1
    app_engine.drive(Scripted, handle.id)
    trace = f"trace of {handle.id}"
    assert recorder.heard == [("start", None, 1, None), ("hint", None, 1, trace), ("step", "first", 2, trace)]
    assert recorder.unforeseen == ["KeyError"]
    recorder.heard.clear()
    handle = record(Scripted, {"script": {"call": ["book+timeout"], "last": ["permanent"]}})
    app_engine.drive(Scripted, handle.id)
    assert [(what, step) for what, step, *_ in recorder.heard] == [
        ("start", None),
        ("step", "first"),
        ("step", "call"),
        ("probe", "call"),
        ("step", "extra"),
        ("step", "last"),
        ("undo", "call"),
        ("undo", "first"),
    ]
    assert recorder.unforeseen == ["KeyError", "TimeoutError"]


def test_they_hear_of_a_saga_of_plain_functions_too(world, app_engine, watching):
    recorder = watching(Recorder())
    saga = SagaOrchestrator("by_hand", engine=app_engine)
    saga.execute_step("first", lambda: 1, lambda: None)
    assert saga.execute_optional_step("extra", [].pop) is None
    with pytest.raises(SagaException):
        saga.execute_step("last", {}.popitem)
    trace = f"trace of {saga.id}"
    steps = [("step", "first"), ("step", "extra"), ("step", "last"), ("undo", "first")]
    assert recorder.heard == [("start", None, 1, None), *((what, step, 1, trace) for what, step in steps)]
    assert recorder.unforeseen == [], "the caller is told, and reports it or not"


@pytest.mark.parametrize("when", ["before", "after"])
def test_one_who_fails_harms_no_saga_and_no_sweep(world, app_engine, watching, caplog, when):
    watching(Clumsy(when=when))
    handle = record(Scripted, {"script": {"first": ["transient", "ok"]}})
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "completed"
    assert run(app_engine, Sweep(name="idle", body=lambda *_: Swept(3), every=60, what="nothing done")).found == 3
    said = {one.getMessage() for one in caplog.records if one.name == "sagajobs.saga.watching"}
    assert said == {"somebody who looks on failed: RuntimeError"}


def test_of_the_sweeps_of_a_minute_the_first_is_told(world, app_engine, watching):
    recorder = watching(Recorder())
    idle = Sweep(name="idle", body=lambda *_: Swept(0), every=1, what="nothing done")
    clock = Clock(app_engine.database)
    with app_engine.database.reading() as connection:
        now = connection.exec_driver_sql("SELECT extract(epoch FROM saga_now())").scalar_one()
    try:
        clock.leap(60 - float(now) % 60 + 1)  # to the first seconds of a minute
        run(app_engine, idle)
        run(app_engine, idle)
        clock.leap(60)
        run(app_engine, idle)
    finally:
        clock.put_right()
    assert recorder.heard == [("idle", 0, True), ("idle", 0, False), ("idle", 0, True)]
