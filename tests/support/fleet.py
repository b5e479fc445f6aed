"""Workers that are killed at named points, and replaced whenever one is, as a process manager would do it.

Killed is a child of the pool, whose parent survives and gives the message out again; or the whole worker, whose
messages nobody gives out again before the visibility time-out, so that the table and the sweep alone bring the saga
home.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from sagajobs import SagaHandle
from tests.support.fixtures import Worker, plan_death


@contextmanager
def fleet(workers: Callable[..., Worker], number: int = 2, *, concurrency: int = 1, **options: Any) -> Iterator[Worker]:
    """Keep so many workers of so many processes alive, and beat beside them, which is given and never killed."""
    beat = workers(concurrency=0)

    def start() -> Worker:
        return workers(concurrency=concurrency, **options)

    living = [start() for _ in range(number)]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for n, worker in enumerate(living):
                if not worker.alive:
                    living[n] = start()

    keeper = threading.Thread(target=watch)
    keeper.start()
    try:
        yield beat
    finally:
        over.set()
        keeper.join()


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
            hit = plan_death(self._folder, handle.id, step, point, self._whom)
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
