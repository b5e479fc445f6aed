"""Killing workers in the middle of a call to Cal.com."""

from __future__ import annotations

import os
import signal
import time

import psutil
from sqlalchemy import text

from sagajobs.runtime.processes import Supervisor
from sagajobs.saga import Database

_PATIENCE = 5.0
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
        self._bury(child)
        return f"killed process {child.pid} of {name} in the middle of a call to Cal.com"

    def kill_worker(self) -> str | None:
        """Kill a worker with all its processes while one of them waits for Cal.com's answer."""
        found = self._find()
        if found is None:
            return None
        name, _ = found
        worker = psutil.Process(self._supervisor.pids()[name])
        os.killpg(worker.pid, signal.SIGKILL)
        self._bury(worker)
        return f"killed {name} (pid {worker.pid}) with all its processes; a new one is started"

    def _find(self) -> tuple[str, psutil.Process] | None:
        """Wait for a pool process that is in a call; return its worker's name and itself."""
        give_up_at = time.monotonic() + _PATIENCE
        while time.monotonic() < give_up_at:
            workers = {pid: name for name, pid in self._supervisor.pids().items() if name in self._workers}
            with self._database.reading() as connection:
                owners = connection.scalars(_AT_WORK).all()
            for pid in (int(owner.rpartition(":")[2]) for owner in owners):
                try:
                    process = psutil.Process(pid)
                    if process.ppid() in workers:
                        return workers[process.ppid()], process
                except psutil.NoSuchProcess:  # its claim outlives it
                    continue
            time.sleep(_LOOK_EVERY)
        return None

    def _bury(self, process: psutil.Process) -> None:
        """Count a killed process once it is really gone (its parent reaps it)."""
        try:
            process.wait(timeout=_PATIENCE)
        except psutil.TimeoutExpired:
            return
        self.killed += 1
