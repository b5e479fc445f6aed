"""What a worker is to do when it comes to a fault point with a saga: told by a file for each, which it renames.

`<saga id>.<step>.<point>`, or `<saga id>.<step>.undo.<point>` while the saga is being undone, holds an `Act`. Whoever
acts on it renames it to `….hit` first, so that each is hit once and a test can tell that it was.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from sagajobs.saga import Engine, SagaState, control
from sagajobs.saga.faultpoints import Hook, Point
from sagajobs.saga.store import Store


class Act(StrEnum):
    """What happens at a point."""

    CHILD = "child"
    """The process of the pool is killed; its parent survives and gives the message out again."""
    WORKER = "worker"
    """The whole worker is killed; its messages are given out again by nobody before the visibility time-out."""
    CANCEL = "cancel"
    """An operator cancels the saga."""


def plan(folder: Path, saga_id: str, step: str, point: str, act: str) -> Path:
    """Have a worker do something at a point; returns the file that tells, once it is there, that it did.

    Args:
        folder: the worker's.
        saga_id: with which saga.
        step: at which step.
        point: one of `Point`, or `undo.` and one.
        act: one of `Act`.
    """
    file = folder / "plans" / f"{saga_id}.{step}.{point}"
    file.parent.mkdir(exist_ok=True)
    file.write_text(act)
    return file.with_name(file.name + ".hit")


def hook(engine: Engine, plans: Path) -> Hook:
    """Return what carries the plans in a folder out, for `faultpoints.install`."""

    def undoing(saga_id: str) -> bool:
        with engine.database.reading() as connection:
            return Store(connection).status(saga_id) in (SagaState.COMPENSATING, SagaState.COMPENSATED)

    def come_to(point: Point, saga_id: str, step: str) -> None:
        file = plans / f"{saga_id}.{step}.{point}"
        undo = file.with_name(f"{saga_id}.{step}.undo.{point}")
        if undo.exists() and undoing(saga_id):
            file = undo
        try:
            act = file.read_text()
            file.rename(file.with_name(file.name + ".hit"))
        except FileNotFoundError:
            return
        _ACTS[Act(act)](engine, saga_id)

    return come_to


def _kill_child(_engine: Engine, _saga_id: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_worker(engine: Engine, saga_id: str) -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)
    _kill_child(engine, saga_id)


def _cancel(engine: Engine, saga_id: str) -> None:
    control.cancel(engine, saga_id, who="testing kit", why="to see it undone")


_ACTS: dict[Act, Callable[[Engine, str], None]] = {
    Act.CHILD: _kill_child,
    Act.WORKER: _kill_worker,
    Act.CANCEL: _cancel,
}
