"""The Celery app of the quota benchmark's workers: the real one, which counts messages and commits in a file."""

from __future__ import annotations

import os
from typing import Any

from celery.signals import before_task_publish
from sqlalchemy import Engine, event

from sagajobs.root import app, engine
from sagajobs.saga.sweeps.sweep import TASK_PREFIX

__all__ = ["app", "engine"]

COUNTS = os.environ["BENCH_COUNTS"]


def _count(what: str) -> None:
    # One write of a short line to a file opened for appending is whole, whoever else writes.
    descriptor = os.open(COUNTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{what}\n".encode())
    os.close(descriptor)


@event.listens_for(Engine, "commit")
def _commit(_connection: Any) -> None:
    _count("commit")


@before_task_publish.connect
def _message(sender: str, **_more: Any) -> None:
    _count("sweep" if sender.startswith(TASK_PREFIX) else "message")
