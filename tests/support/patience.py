"""Doing something that needs the database, while the database comes and goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from sagajobs.testing.waiting import wait_for

T = TypeVar("T")


def patiently(act: Callable[[], T]) -> T:
    """Do it again and again until the database is back; return what it returned."""
    done: list[T] = []

    def succeeds() -> bool:
        try:
            done.append(act())
        except DBAPIError:
            return False
        return True

    wait_for(succeeds)
    return done[0]
