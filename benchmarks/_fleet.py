"""Real workers for a benchmark, in processes of their own, the first of them with beat."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORKERS, CHILDREN = 2, 2
"""Workers, and the processes of each."""


@contextmanager
def workers(app: str, home: Path) -> Iterator[None]:
    """Run workers of the Celery app `app` while the block does; their log is `workers.log` in `home`."""
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "-c", str(CHILDREN)]
    environment = os.environ | {"C_FORCE_ROOT": "1"}
    with (home / "workers.log").open("wb") as log:
        started = [
            subprocess.Popen(  # noqa: S603 - our own command
                [*command, "-n", f"w{n}@bench", *(["-B", "-s", str(home / "schedule")] if n == 0 else [])],
                env=environment,
                stdout=log,
                stderr=log,
            )
            for n in range(WORKERS)
        ]
        try:
            yield
        finally:
            for worker in started:
                worker.terminate()
            for worker in started:
                worker.wait(30)
