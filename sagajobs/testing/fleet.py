"""Workers that are killed at named points, and replaced whenever one is, as a process manager would do it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sagajobs.testing.worker import Worker


@contextmanager
def fleet(workers: Callable[..., Worker], number: int = 2, *, concurrency: int = 1, **options: Any) -> Iterator[Worker]:
    """Keep so many workers of so many processes alive, and beat beside them, which is given and never killed.

    Args:
        workers: starts a `Worker`, and sees to it that it is stopped in the end.
        number: of workers.
        concurrency: processes of each.
        options: further ones of a `Worker`.
    """
    started: list[Worker] = []
    over = threading.Event()

    def start() -> Worker:
        return workers(concurrency=concurrency, **options)

    def watch() -> None:
        while not over.wait(0.05):
            for n, worker in enumerate(started):
                if not worker.alive:
                    started[n] = start()

    beat = workers(concurrency=0, **options)
    started += [start() for _ in range(number)]
    keeper = threading.Thread(target=watch)
    keeper.start()
    try:
        yield beat
    finally:
        over.set()
        keeper.join()
