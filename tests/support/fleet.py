"""Workers that are replaced whenever one is killed, as a process manager would do it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.fixtures import Worker


@contextmanager
def fleet(workers: Callable[..., Worker], number: int = 2, **options: Any) -> Iterator[Worker]:
    """Keep so many workers of one process each alive, and beat beside them, which is given and never killed."""
    beat = workers(concurrency=0)
    living = [workers(concurrency=1, **options) for _ in range(number)]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for n, worker in enumerate(living):
                if not worker.alive:
                    living[n] = workers(concurrency=1, **options)

    keeper = threading.Thread(target=watch)
    keeper.start()
    try:
        yield beat
    finally:
        over.set()
        keeper.join()
