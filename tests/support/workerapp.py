"""The Celery app of test workers: the testing kit's, with the tests' own sagas and counters."""

from __future__ import annotations

import os

from celery.signals import before_task_publish
from sqlalchemy import Engine, event

from sagajobs.booking import AppointmentCreationSaga, CompositeBookingSaga
from sagajobs.root import engine
from sagajobs.testing.workerapp import app  # noqa: F401 - what `celery -A` looks for
from tests.support import timelapse, versioned, wide
from tests.support.sagas import Pivoting, Scripted, World

COUNTS = os.environ.get("COUNT_FILE")


def _count(kind: str, what: str) -> None:
    # One write of a short line to a file opened for appending is whole, whoever else writes.
    descriptor = os.open(COUNTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{kind} {what}\n".encode())
    os.close(descriptor)


for kind in (Scripted, Pivoting):
    engine.register(kind, World(engine))
wide.register(engine, World(engine))
versioned.register(engine, World(engine))

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
