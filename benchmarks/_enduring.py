"""The Celery app of the recovery benchmark's workers: the real one, with a saga of three steps, and a chain beside it.

Both do the same: a row here, an effect outside, a row here. The effect is a row, too, committed by itself: nothing
takes it back when its worker dies, so that one that was brought about twice is seen.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from celery import Celery, chain
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from sagajobs.root import app, engine, servers
from sagajobs.saga import Saga, step

__all__ = ["Enduring", "app", "bare", "engine"]

VISIBILITY = 30
"""Seconds after which Redis gives the bare chain's messages to somebody else; for a chain there is nothing sooner."""

TABLES = """
    CREATE TABLE notes (work text, step text, at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE effects (work text, at timestamptz DEFAULT clock_timestamp());
    CREATE INDEX ON notes (work); CREATE INDEX ON effects (work)
"""


class Nothing(BaseModel):
    pass


@cache
def _outside() -> Engine:
    return create_engine(servers().database)


def _effect(work: str) -> None:
    with _outside().begin() as connection:
        connection.execute(text("INSERT INTO effects (work) VALUES (:work)"), {"work": work})


def _note(db: Any, work: str, step: str) -> None:
    db.execute(text("INSERT INTO notes (work, step) VALUES (:work, :step)"), {"work": work, "step": step})


class Enduring(Saga):
    """Notes its beginning, acts outside, notes its end."""

    name = "enduring"
    Input = Nothing

    @step(irreversible=True)
    def begin(self, db: Session) -> None:
        """Note it."""
        _note(db, self.id, "begin")

    @step(external=True, irreversible=True, timeout=2)
    def act(self, _key: str) -> None:
        """Act."""
        _effect(self.id)

    @act.probe(looks=2, over=0.2)
    def acted(self, _key: str) -> dict[str, bool] | None:
        """Tell whether it did."""
        with _outside().connect() as connection:
            found = connection.execute(text("SELECT FROM effects WHERE work = :work"), {"work": self.id}).first()
        return None if found is None else {}

    @step(irreversible=True)
    def end(self, db: Session) -> None:
        """Note it."""
        _note(db, self.id, "end")


engine.register(Enduring)
app.conf.worker_send_task_events = False  # as the bare one, and as a busy worker should (celeryconfig.py)

bare = Celery("bare", broker=os.environ.get("BENCH_BARE_BROKER"), set_as_current=False)
bare.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": VISIBILITY},
    task_default_queue="bare",
)


@bare.task
def begin(work: str) -> None:
    """Note it."""
    with _outside().begin() as connection:
        _note(connection, work, "begin")


@bare.task
def act(work: str) -> None:
    """Act."""
    _effect(work)


@bare.task
def end(work: str) -> None:
    """Note it."""
    with _outside().begin() as connection:
        _note(connection, work, "end")


def enqueue_bare(work: str) -> None:
    """Send the chain that does what the saga does."""
    chain(begin.si(work), act.si(work), end.si(work)).apply_async()
