"""Killing workers in the middle of a call to Cal.com."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
from sqlalchemy import text

from sagajobs.errors import SagajobsError
from sagajobs.runtime.processes import Supervisor
from sagajobs.saga import Database
from sagajobs.saga.presence import process_id

_PATIENCE = 5.0
_GONE_WITHIN = 60.0
_LOOK_EVERY = 0.02

_AT_WORK = text("SELECT owner FROM saga_steps WHERE state = 'running' AND external AND lease_until > saga_now()")


class Killer:
    """Kills what is at work.

    Args:
        database: says who is.
        supervisor: has the workers as children.
        workers: their names there.

    Attributes:
        killed: processes that were killed and are gone.
    """

    def __init__(self, database: Database, supervisor: Supervisor, workers: tuple[str, ...]) -> None:
        self._database = database
        self._supervisor = supervisor
        self._workers = workers
        self.killed = 0

    def kill_child(self) -> str | None:
        """Kill a pool process that waits for Cal.com's answer; say so, or return None if none does."""
        found = self._find()
        if found is None:
            return None
        name, child = found
        child.kill()
        self._await(lambda: not child.is_running())
        return f"killed process {child.pid} of {name} in the middle of a call to Cal.com"

    def kill_worker(self) -> str | None:
        """Kill a worker with all its processes while one of them waits for Cal.com's answer."""
        found = self._find()
        if found is None:
            return None
        name, _ = found
        pid = self._supervisor.pids()[name]
        os.killpg(pid, signal.SIGKILL)
        # Asked of the supervisor: whoever waits for its child by himself takes the death away from it.
        self._await(lambda: self._supervisor.pids().get(name, pid) != pid)
        successor = self._supervisor.pids()[name]
        return f"killed {name} (pid {pid}) with all its processes; the supervisor started pid {successor}"

    def _find(self) -> tuple[str, psutil.Process] | None:
        """Wait for a pool process that is in a call; return its worker's name and itself."""
        give_up_at = time.monotonic() + _PATIENCE
        while time.monotonic() < give_up_at:
            workers = {pid: name for name, pid in self._supervisor.pids().items() if name in self._workers}
            with self._database.reading() as connection:
                owners = connection.scalars(_AT_WORK).all()
            for pid in map(process_id, owners):
                try:
                    process = psutil.Process(pid)
                    if process.ppid() in workers:
                        return workers[process.ppid()], process
                except psutil.NoSuchProcess:  # its claim outlives it
                    continue
            time.sleep(_LOOK_EVERY)
        return None

    def _await(self, gone: Callable[[], bool]) -> None:
        """Wait until a killed process is really gone, and count it."""
        give_up_at = time.monotonic() + _GONE_WITHIN
        while not gone():
            if time.monotonic() > give_up_at:
                raise SagajobsError("a process that was killed does not end")
            time.sleep(_LOOK_EVERY)
        self.killed += 1
