"""Real workers for a benchmark, in processes of their own, the first of them with beat."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORKERS, CHILDREN = 2, 2
"""Workers, and the processes of each."""


class Fleet:
    """Workers of one Celery app.

    Args:
        app: the module of the app.
        home: folder that their log, `workers.log`, goes to.
    """

    def __init__(self, app: str, home: Path) -> None:
        options = ["-c", str(CHILDREN), "--without-gossip", "--without-mingle"]  # as `sagajobs up`
        self._command = [sys.executable, "-m", "celery", "-A", app, "worker", *options]
        self._home = home
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the workers, each the leader of a process group."""
        with (self._home / "workers.log").open("ab") as log:
            self._started = [
                subprocess.Popen(  # noqa: S603 - our own command
                    [
                        *self._command,
                        "-n",
                        f"w{n}@bench",
                        *(["-B", "-s", str(self._home / "schedule")] if n == 0 else []),
                    ],
                    env=os.environ | {"C_FORCE_ROOT": "1"},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for n in range(WORKERS)
            ]

    def kill(self) -> None:
        """Kill them all, with their children, in the middle of what they do."""
        for worker in self._started:
            os.killpg(worker.pid, signal.SIGKILL)
        for worker in self._started:
            worker.wait(30)
        self._started = []

    def stop(self) -> None:
        """End them as a deployment would."""
        for worker in self._started:
            worker.terminate()
        for worker in self._started:
            worker.wait(30)
        self._started = []


@contextmanager
def workers(app: str, home: Path) -> Iterator[Fleet]:
    """Run workers of the Celery app `app` while the block does."""
    fleet = Fleet(app, home)
    fleet.start()
    try:
        yield fleet
    finally:
        fleet.stop()
