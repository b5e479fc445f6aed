"""A real Celery worker in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path

from sagajobs.testing import nursery, stack, waiting

APP = "sagajobs.testing.workerapp"

COMES_UP_WITHIN = 120.0
"""Seconds that a worker may take until it is ready: several may be starting on a machine that is busy."""

STOPS_WITHIN = 6.0
"""Seconds that it may take to finish what it is at."""


class Worker:
    """A Celery worker in its own process group, running the application with plans of death.

    Args:
        folder: for its log, and the plans in it (`deaths.plan`).
        modules: what it imports, so that their sagas are registered.
        app: its Celery app.
        concurrency: processes of its pool; with 0 it is nothing but beat.
        beat: beat runs within it.
        talkative: it tells events, and what it does line by line; both together are two thirds of a busy worker's time.
        environment: variables beside those of this process.

    Raises:
        AssertionError: it did not come up; with its log.
    """

    def __init__(
        self,
        folder: Path,
        *,
        modules: Iterable[str] = (),
        app: str = APP,
        concurrency: int = 2,
        beat: bool = False,
        talkative: bool = False,
        **environment: str,
    ) -> None:
        self.folder = folder
        self.log = folder / f"worker-{uuid.uuid4().hex[:8]}.log"
        plans = folder / "plans"
        plans.mkdir(exist_ok=True)
        schedule = ["-s", str(folder / f"schedule-{self.log.stem}")]
        if concurrency == 0:
            arguments = ["-A", app, "beat", *schedule, "-l", "INFO"]
            self._sign = "beat: Starting..."
        else:
            arguments = ["-A", app, "worker", "-c", str(concurrency)]
            arguments += ["-E", "-l", "DEBUG"] if talkative else ["-l", "INFO"]
            arguments += ["-n", f"w{uuid.uuid4().hex[:8]}@test", "--without-gossip", "--without-mingle"]
            arguments += ["-B", *schedule] if beat else []
            self._sign = " ready."
        variables = os.environ | {
            "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(Path.cwd())]),
            "PLAN_DIR": str(plans),
            "SAGA_MODULES": " ".join(modules),
            "C_FORCE_ROOT": "1",
            **stack.addresses(),
            **environment,
        }
        self.process = nursery.start(
            "celery.__main__:main", ["celery", *arguments], folder=Path.cwd(), environment=variables, out=self.log
        )
        self._await_ready()

    def _await_ready(self) -> None:
        with contextlib.suppress(AssertionError):  # its log says more
            waiting.wait_for(lambda: self._is_ready or not self.alive, COMES_UP_WITHIN)
        if not self._is_ready:
            raise AssertionError(f"the worker did not come up:\n{self._said[-3000:]}")

    @property
    def _is_ready(self) -> bool:
        return self._sign in self._said

    @property
    def _said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.is_alive()

    def kill(self) -> None:
        """End the whole worker at once, children and all, as losing its machine would."""
        if self.process.pid is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()

    def ask_to_stop(self) -> None:
        """Have it finish what it is at; `stop` waits for that."""
        if self.alive:
            self.process.terminate()

    def stop(self) -> None:
        """Have it finish what it is at, and end it if that takes too long."""
        self.ask_to_stop()
        # Every fiftieth time or so a child waits 30 s for its parent to count a last result, and the parent, who has
        # left its event loop, for the child (billiard's `_ensure_messages_consumed`): nothing is at work any more.
        self.process.join(STOPS_WITHIN)
        # Beat within it is a process of its own, and may outlive it by a message to a queue that is gone by then.
        with contextlib.suppress(ProcessLookupError):
            self.kill()
