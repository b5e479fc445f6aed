"""What the scenarios share: less patience than in earnest, where a failure is what they are about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sagajobs.saga import RetryPolicy

SOON = RetryPolicy(max_attempts=3, base=0.05, max_delay=0.1)


@pytest.fixture(scope="module")
def worker_environment() -> dict[str, str]:
    """With much patience: what is told of histories is told of Cal.com's faults, of which a slow machine is none."""
    return {"SAGAJOBS_CALCOM_READ_TIMEOUT": "60"}


@pytest.fixture
def impatient(monkeypatch) -> Callable[..., None]:
    """Have this process give up soon on an external step, its probe and its undo."""

    def shorten(kind, name: str) -> None:
        step = next(one for one in kind.definition.steps if one.name == name)
        monkeypatch.setattr(step, "finder", replace(step.finder, over=0.1, retry=SOON))
        monkeypatch.setattr(step, "retry", replace(step.retry, max_attempts=3, base=0.05, max_delay=0.1))
        monkeypatch.setattr(step.undo, "retry", replace(step.undo.retry, max_attempts=2, base=0.05))

    return shorten


@pytest.fixture
def failing(monkeypatch) -> Callable[..., None]:
    """Have the last step of a saga be required, and fail, in this process."""

    def fail(_saga, _db):
        raise ValueError("required, and fails")

    def break_last(kind) -> None:
        last = kind.definition.steps[-1]
        monkeypatch.setattr(last, "optional", False)
        monkeypatch.setattr(last, "method", fail)

    return break_last
