"""Who is besieged: workers and two beats, each replaced when it is gone, as a process manager would do it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Collection
from pathlib import Path
from random import Random

import psutil

from sagajobs.testing.worker import Worker

WORKERS = 3
BEATS = 2
CHILDREN = 2
"""Steps that one worker does side by side."""


class Garrison:
    """The workers.

    Args:
        folder: where their logs go.
        dice: picks victims.
    """

    def __init__(self, folder: Path, dice: Random) -> None:
        self._folder = folder
        self._dice = dice
        self._over = threading.Event()
        self._frozen: set[int] = set()
        self.started = 0
        self._posts: list[Worker] = [self._start(n) for n in range(WORKERS + BEATS)]
        self._keeper = threading.Thread(target=self._keep, name="keeper")
        self._keeper.start()

    def _start(self, post: int) -> Worker:
        self.started += 1
        return Worker(self._folder, concurrency=CHILDREN if post < WORKERS else 0)

    def _keep(self) -> None:
        while not self._over.wait(0.1):
            for post, worker in enumerate(self._posts):
                if not worker.alive and not self._over.is_set():
                    self._posts[post] = self._start(post)

    def _at_work(self) -> list[Worker]:
        workers = [worker for worker in self._posts[:WORKERS] if worker.alive]
        return [worker for worker in workers if worker.process.pid not in self._frozen]

    def kill_child(self, busy: Collection[int]) -> list[int]:
        """Kill one process of a worker's pool, a busy one if there is one; return the ids of those that are gone."""
        children = [child for worker in self._at_work() for child in _children(worker)]
        victims = [child for child in children if child.pid in busy] or children
        if not victims:
            return []
        victim = self._dice.choice(victims)
        victim.kill()
        return [victim.pid]

    def kill_worker(self, busy: Collection[int]) -> list[int]:
        """Kill a whole worker, a busy one if there is one; return the process ids that are gone."""
        workers = self._at_work()
        victims = [worker for worker in workers if any(child.pid in busy for child in _children(worker))] or workers
        if not victims:
            return []
        victim = self._dice.choice(victims)
        pids = [child.pid for child in _children(victim)]
        os.killpg(victim.process.pid, signal.SIGKILL)
        return [victim.process.pid, *pids]

    def kill_beat(self) -> list[int]:
        """Kill one of the beats."""
        beat = self._dice.choice(self._posts[WORKERS:])
        os.killpg(beat.process.pid, signal.SIGKILL)
        return [beat.process.pid]

    def freeze(self) -> int | None:
        """Stop a whole worker where it stands; return its process group, None if there are too few left."""
        workers = self._at_work()
        if len(workers) < WORKERS - 1:
            return None
        group = self._dice.choice(workers).process.pid
        self._frozen.add(group)
        os.killpg(group, signal.SIGSTOP)
        return group

    def thaw(self, group: int) -> None:
        """Let a worker go on that was stopped; it knows nothing of the time between."""
        self._frozen.discard(group)
        try:
            os.killpg(group, signal.SIGCONT)
        except ProcessLookupError:
            return  # it ended meanwhile, as the siege did

    def stop(self) -> None:
        """End them all."""
        self._over.set()
        self._keeper.join()
        for worker in self._posts:
            worker.ask_to_stop()
        for worker in self._posts:
            worker.stop()


def _children(worker: Worker) -> list[psutil.Process]:
    try:
        return psutil.Process(worker.process.pid).children()
    except psutil.NoSuchProcess:  # it has just been killed
        return []
