"""Where test workers, and other programs, come from: a process that has the libraries loaded, and forks.

A worker spends more than a second of a core on importing Celery and SQLAlchemy, and the suite starts hundreds. Forked
from a process that has them, it is as separate as if it had been started by hand: a session and environment of its
own, and the application, which reads that environment when it is imported, is imported by nobody before.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

LOADED = [
    "pytest",  # what `multiprocessing` loads into a child as the main program
    "celery.bin.celery",
    "celery.apps.worker",
    "celery.apps.beat",
    "celery.concurrency.prefork",
    "celery.worker.consumer",
    "celery.worker.autoscale",
    "celery.fixups.django",
    "celery.backends.redis",
    "kombu.transport.redis",
    "kombu.transport.pyamqp",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "alembic.command",
    "pydantic_settings",
    "rich.console",
    "rich.table",
    "sagajobs.booking",
    "sagajobs.booking.sweeps",
    "sagajobs.calcom.client",
    "sagajobs.calcom.circuit",
    "sagajobs.calcom.quota",
    "sagajobs.celerydefaults",
    "sagajobs.migrations",
    "sagajobs.runtime.reachability",
    "sagajobs.runtime.servers",
    "sagajobs.runtime.settings",
]

_one_at_a_time = threading.Lock()
"""To start a process, `multiprocessing` asks after all others, and what it is told of one is told once: a thread that
asks in the same moment learns nothing, and takes the process's exit status for 255."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LOADED)


def start(
    program: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    out: Path,
    err: Path | None = None,
) -> ForkServerProcess:
    """Start a program as the first of a session (and process group) of its own.

    Args:
        program: its entry point, `module:function`.
        arguments: what it is given, its own name first.
        folder: in which it runs.
        environment: all of it.
        out: file that takes what it says.
        err: file that takes what it says of errors; the same one if not given.
    """
    process = _context.Process(target=_run, args=(program, arguments, folder, dict(environment), out, err))
    with _one_at_a_time:
        process.start()
    return process


def ended(process: ForkServerProcess, timeout: float) -> int | None:
    """Wait for a process, at most so many seconds; return its exit status, None if it still runs.

    For those who start others in several threads.
    """
    connection.wait([process.sentinel], timeout)
    with _one_at_a_time:
        process.join(0)
        return process.exitcode


def _run(
    program: str, arguments: Sequence[str], folder: Path, environment: dict[str, str], out: Path, err: Path | None
) -> None:
    os.setsid()
    with out.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if err is not None:
        with err.open("wb") as file:
            os.dup2(file.fileno(), 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = list(arguments)
    gc.freeze()  # Celery collects before each process that it forks, and would look at all that was loaded here
    module, _, function = program.partition(":")
    getattr(importlib.import_module(module), function)()  # now: what it imports reads the environment
