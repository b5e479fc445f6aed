"""Where test workers come from: a process that has the libraries loaded, and forks.

A worker spends more than a second of a core on importing Celery and SQLAlchemy, and the suite starts hundreds. Forked
from a process that has them, it is as separate as if it had been started by hand: a session and environment of its
own, and the application, which reads that environment when it is imported, is imported by nobody before.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
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
    "sagajobs.booking",
    "sagajobs.booking.sweeps",
    "sagajobs.calcom.client",
    "sagajobs.calcom.circuit",
    "sagajobs.calcom.quota",
    "sagajobs.runtime.servers",
]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LOADED)


def start(arguments: list[str], *, folder: Path, environment: dict[str, str], log: Path) -> ForkServerProcess:
    """Start `celery` with these arguments, in this folder, as the first of a session (and process group) of its own."""
    process = _context.Process(target=_celery, args=(arguments, folder, environment, log))
    process.start()
    return process


def _celery(arguments: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    os.setsid()
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    sys.argv = ["celery", *arguments]
    from celery.__main__ import main  # noqa: PLC0415 - it reads the environment, which is set by now

    main()
