"""Sagas at each of which a worker dies: as `dies_at_every_point` of the testing kit, for what it does not do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from sagajobs import SagaHandle
from sagajobs.testing import deaths
from sagajobs.testing.worker import Worker


class Doomed:
    """Sagas at each of which a worker dies.

    Args:
        engine: theirs.
        beat: the fleet's, whose folder all workers read their plans in.
        whom: who dies, `child` or `worker`.
    """

    def __init__(self, engine: Any, beat: Worker, whom: str) -> None:
        self._engine = engine
        self._folder = beat.folder
        self._whom = whom
        self._started: dict[tuple[str, ...], tuple[SagaHandle, Path]] = {}

    def start(self, enqueue: Callable[..., SagaHandle], step: str, point: str, *more: str) -> None:
        """Start a saga whose worker is to die; the plan lies ready before anybody can take the message.

        Args:
            enqueue: starts it, in the transaction of the `session` that it is given.
            step: where the worker dies; likewise `point`.
            more: what tells it from others that die there.
        """
        with Session(self._engine.database.engine) as session, session.begin():
            handle = enqueue(session=session)
            hit = deaths.plan(self._folder, handle.id, step, point, self._whom)
        self._started[*more, step, point] = handle, hit

    def assert_all(self, end: str) -> None:
        """Wait for all, and assert that each came to its end though its worker died where it was to."""
        ends = {where: handle.wait(200) for where, (handle, _) in self._started.items()}
        assert {where for where, (_, hit) in self._started.items() if not hit.exists()} == set(), "each was hit"
        assert {where: came for where, came in ends.items() if came != end} == {}

    @property
    def ids(self) -> list[str]:
        """Their ids, in the order of their starts."""
        return [handle.id for handle, _ in self._started.values()]
