"""Sagas for tests of the engine, which knows nothing of appointments; the outside world is a table of its own.

The world is written through a connection of its own, so that what a step does there stands whatever becomes of the
step's transaction: as with an HTTP API.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs.errors import AmbiguousRefusal, Deferred, EffectGone, PermanentError, SagaException, TransientError
from sagajobs.saga import RetryPolicy, Saga, SagaHandle, step

log = logging.getLogger("tests.author")

QUICK = RetryPolicy(max_attempts=3, base=0.02, max_delay=0.05, deferral=0.02)


class World:
    """What exists outside: keys, each booked at most once if all goes well."""

    def __init__(self, engine) -> None:
        self._database = engine.database

    def create(self) -> None:
        with self._database.transaction() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS test_world (id bigserial, key text, act text)"))
            connection.execute(text("CREATE TABLE IF NOT EXISTS test_local (id bigserial, saga_id text, step text)"))
            connection.execute(text("DELETE FROM test_world; DELETE FROM test_local"))

    def act(self, key: str, act: str) -> None:
        with self._database.transaction() as connection:
            connection.execute(text("INSERT INTO test_world (key, act) VALUES (:key, :act)"), {"key": key, "act": act})

    def acts(self, saga_id: str | None = None) -> list[str]:
        with self._database.reading() as connection:
            rows = connection.execute(
                text("SELECT act FROM test_world WHERE key LIKE :key ORDER BY id"), {"key": f"{saga_id or ''}%"}
            )
            return [row.act for row in rows]

    def stands(self, key: str) -> bool:
        with self._database.reading() as connection:
            made, undone = (
                connection.execute(
                    text("SELECT count(*) FROM test_world WHERE key = :key AND act = :act"), {"key": key, "act": act}
                ).scalar_one()
                for act in ("book", "cancel")
            )
        return made > undone

    def local(self, saga_id: str) -> list[str]:
        with self._database.reading() as connection:
            rows = connection.execute(
                text("SELECT step FROM test_local WHERE saga_id = :id ORDER BY id"), {"id": saga_id}
            )
            return [row.step for row in rows]


class Input(BaseModel):
    """How a test wants a saga to behave: by step or undo, what it does each time (the last one repeats)."""

    script: dict[str, list[str]] = {}
    skip: bool = False
    adopt: bool = False


ACTS: dict[str, Callable[[], None]] = {}


def _hang() -> None:
    """Hang so that only a hard time limit helps."""
    while True:
        with contextlib.suppress(SoftTimeLimitExceeded):
            threading.Event().wait(60)


class Killed(BaseException):
    """Ends a delivery without a word, as the death of its worker does, and leaves the test alive."""


def _raise(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


ACTS |= {
    "ok": lambda: None,
    "transient": _raise(TransientError("confidential detail")),
    "deferred": _raise(Deferred("confidential detail")),
    "permanent": _raise(PermanentError("confidential detail")),
    "bug": _raise(KeyError("confidential detail")),
    "timeout": _raise(TimeoutError("confidential detail")),
    "refused": _raise(AmbiguousRefusal("confidential detail")),
    "gone": _raise(EffectGone("confidential detail")),
    "killed": _raise(Killed()),
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": _raise(SystemExit(1)),
    "sleep": lambda: threading.Event().wait(60),
    "hang": _hang,
}


class Scripted(Saga):
    """Three steps: local, external, optional; each does what the input's script says."""

    name = "scripted"
    Input = Input

    def _act(self, what: str) -> str:
        """Do what the script says for the n-th time of `what`; how many there were is counted in the world."""
        world: World = self.services
        log.info("doing what the script says")
        times = world.acts(self.id).count(f"try:{what}")
        world.act(f"{self.id}/{what}", f"try:{what}")
        script = self.input.script.get(what, ["ok"])
        return script[min(times, len(script) - 1)]

    def _local(self, db, what: str) -> None:
        word = self._act(what)
        db.execute(text("INSERT INTO test_local (saga_id, step) VALUES (:id, :step)"), {"id": self.id, "step": what})
        ACTS[word.rpartition("+")[2]]()

    @step(retry=QUICK)
    def first(self, db) -> dict[str, Any]:
        self._local(db, "first")
        return {"by": "first"}

    @first.compensation(retry=QUICK)
    def undo_first(self, db) -> dict[str, Any]:
        self._local(db, "undo_first")
        return {"undone": "first"}

    @step(external=True, retry=QUICK, timeout=1, adopt=lambda saga: saga.input.adopt)
    def call(self, key: str) -> dict[str, Any]:
        word = self._act("call")
        done_first, _, act = word.rpartition("+")
        if act == "ok" or done_first == "book":
            self.services.act(key, "book")
        ACTS[act]()
        return {"key": key}

    @call.probe(looks=2, over=0.05, retry=QUICK)
    def find(self, key: str) -> dict[str, Any] | None:
        ACTS[self._act("find").rpartition("+")[2]]()
        return {"key": key, "found": True} if self.services.stands(key) else None

    @call.record
    def note_call(self, db, result: dict[str, Any]) -> None:
        self._local(db, "note_call")

    @call.compensation(retry=QUICK)
    def cancel(self, result: dict[str, Any]) -> dict[str, Any]:
        word = self._act("cancel")
        if self.services.stands(result["key"]):
            self.services.act(result["key"], "cancel")
        ACTS[word.rpartition("+")[2]]()
        return {"standing": self.services.stands(result["key"])}

    @step(optional=True, retry=QUICK, when=lambda saga: not saga.input.skip)
    def extra(self, db) -> None:
        self._local(db, "extra")

    @step(irreversible=True, retry=QUICK)
    def last(self, db) -> int:
        self._local(db, "last")
        return 42


class Pivoting(Saga):
    """A saga with a pivot: past it, only forward."""

    name = "pivoting"
    Input = Input
    _act, _local = Scripted._act, Scripted._local

    @step(retry=QUICK)
    def before(self, db) -> None:
        self._local(db, "before")

    @before.compensation
    def undo_before(self, db) -> None:
        self._local(db, "undo_before")

    @step(pivot=True, retry=QUICK)
    def pivot(self, db) -> None:
        self._local(db, "pivot")

    @step(retry=QUICK)
    def after(self, db) -> None:
        self._local(db, "after")


def register(engine) -> World:
    """Make the sagas of this module known, once, with a new world; returns that, empty.

    Before a test has another publisher: with the application's, they get their tasks.
    """
    world = World(engine)
    world.create()
    for kind in (Scripted, Pivoting):
        if kind.name in engine.kinds:
            kind.services = world
        else:
            engine.register(kind, world)
    return world


def forget(engine, *names: str) -> None:
    """Make sagas unknown, with their tasks, so that another test may have one of the same name."""
    from sagajobs.root import app

    for name in names:
        del engine.kinds[name]
        for task in [task for task in app.tasks if task.startswith(f"{name}.")]:
            app.tasks.unregister(task)


def record(kind: type[Saga], request: dict[str, Any]) -> SagaHandle:
    """Record a saga without a hint to anybody: as if its first message were lost."""
    with Session(kind.engine.database.engine) as session, session.begin():
        return kind.engine._start(kind, request, None, session)


def states(handle: SagaHandle) -> dict[str, str]:
    """Return the state of each step, by name."""
    return {name: str(step.state) for name, step in handle.record().steps.items()}


def reason(error: SagaException) -> str:
    """Return the class of what a saga failed of, as it is on record.

    The exception chains it only when this process itself met it: under load a worker may have taken the step over.
    """
    recorded: str = SagaHandle(error.saga_id).record().error["class"]
    return recorded.rpartition(".")[2]
