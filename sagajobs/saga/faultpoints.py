"""Named points of the engine at which a test may stop the world; in production nobody listens.

A point costs one comparison while no hook is installed. The hook is code of the test process: nothing in the
environment or in a message can turn it on.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

Hook = Callable[["Point", str, str], None]


class Point(StrEnum):
    """Where a worker can be stopped, in the order in which a step passes."""

    BEFORE_CLAIM = "before_claim"
    AFTER_CLAIM = "after_claim"
    AFTER_CALL = "after_call"
    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    BEFORE_NEXT_MESSAGE = "before_next_message"
    BEFORE_ACK = "before_ack"


_hook: Hook | None = None


def install(hook: Hook | None) -> None:
    """Have `hook(point, saga_id, step)` called at every point of this process; None removes it."""
    global _hook  # noqa: PLW0603 - one switch per process is the point
    _hook = hook


def reached(point: Point, saga_id: str, step: str) -> None:
    """Say that this process has come to `point`."""
    if _hook is not None:
        _hook(point, saga_id, step)
