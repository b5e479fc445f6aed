"""Named points of the engine at which a test may stop the world, or stand in for a step; in production nobody does.

A point costs one comparison while no hook is installed. The hook is code of the test process: nothing in the
environment or in a message can turn it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from typing import Any

Hook = Callable[["Point", str, str], None]
StandIn = Callable[["Work", str, str, Callable[[], Any]], Any]


class Point(StrEnum):
    """Where a worker can be stopped, in the order in which a step passes."""

    BEFORE_CLAIM = "before_claim"
    AFTER_CLAIM = "after_claim"
    AFTER_CALL = "after_call"
    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    BEFORE_NEXT_MESSAGE = "before_next_message"
    BEFORE_ACK = "before_ack"


class Work(StrEnum):
    """What an author's code does for a step."""

    STEP = "step"
    UNDO = "undo"
    PROBE = "probe"


_hook: Hook | None = None
_stand_in: StandIn | None = None


def install(hook: Hook | None) -> None:
    """Have `hook(point, saga_id, step)` called at every point of this process; None removes it."""
    global _hook  # noqa: PLW0603 - one switch per process is the point
    _hook = hook


@contextmanager
def installed(hook: Hook) -> Iterator[None]:
    """Have `hook` called as `install` does, while the block runs."""
    install(hook)
    try:
        yield
    finally:
        install(None)


def reached(point: Point, saga_id: str, step: str) -> None:
    """Say that this process has come to `point`."""
    if _hook is not None:
        _hook(point, saga_id, step)


def stand_in(instead: StandIn | None) -> None:
    """Have `instead(what, saga_id, step, act)` called where this process would call an author's code; None: no more.

    It returns, or raises, what the engine is to take for the author's own; `act()` does what would have been done.
    """
    global _stand_in  # noqa: PLW0603 - likewise
    _stand_in = instead


def work(what: Work, saga_id: str, step: str, method: Callable[..., Any], *arguments: Any) -> Any:
    """Call an author's code for a step, or whoever stands in for it."""
    if _stand_in is None:
        return method(*arguments)
    return _stand_in(what, saga_id, step, partial(method, *arguments))
