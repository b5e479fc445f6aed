"""The Celery app of test workers: the real one, with a hook at the engine's fault points and counters.

What to do where is told by files in the folder PLAN_DIR: `<saga id>.<step>.<point>` holds `child` or `worker`, and is
renamed to `….hit` by the process that dies on it, so that each is hit once and a test can tell that it was.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from celery.signals import before_task_publish
from sqlalchemy import Engine, event

from sagajobs.booking import AppointmentCreationSaga, CompositeBookingSaga
from sagajobs.root import app, engine  # noqa: F401 - `app` is what `celery -A workerapp` looks for
from sagajobs.saga import faultpoints
from sagajobs.saga.store import Store
from tests.support import timelapse, wide
from tests.support.sagas import Pivoting, Scripted, World

PLANS = Path(os.environ["PLAN_DIR"])
COUNTS = os.environ.get("COUNT_FILE")


def _undoing(saga_id: str) -> bool:
    with engine.database.reading() as connection:
        return Store(connection).status(saga_id) in ("compensating", "compensated")


def _die(point: faultpoints.Point, saga_id: str, step: str) -> None:
    plan = PLANS / f"{saga_id}.{step}.{point}"
    undo = plan.with_name(f"{saga_id}.{step}.undo.{point}")
    if undo.exists() and _undoing(saga_id):
        plan = undo
    try:
        whom = plan.read_text()
        plan.rename(plan.with_name(plan.name + ".hit"))
    except FileNotFoundError:
        return
    if whom == "worker":
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _count(kind: str, what: str) -> None:
    # One write of a short line to a file opened for appending is whole, whoever else writes.
    descriptor = os.open(COUNTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{kind} {what}\n".encode())
    os.close(descriptor)


for kind in (Scripted, Pivoting):
    engine.register(kind, World(engine))
wide.register(engine, World(engine))
faultpoints.install(_die)

if os.environ.get("SHORT_MINUTE"):
    timelapse.shorten()

if os.environ.get("REQUIRED_STEP_FAILS"):

    def _fail(_saga, _db):
        raise ValueError("required, and fails")

    for kind in (AppointmentCreationSaga, CompositeBookingSaga):
        last = kind.definition.step("assign_staff")
        last.optional, last.method = False, _fail

if COUNTS:

    @event.listens_for(Engine, "before_cursor_execute")
    def _query(_connection, _cursor, statement, *_rest):
        _count("query", " ".join(statement.split())[:60])

    @event.listens_for(Engine, "commit")
    def _commit(_connection):
        _count("commit", "")

    @before_task_publish.connect
    def _message(sender=None, **_kwargs):
        _count("message", sender)
