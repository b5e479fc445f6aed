"""What the fault points cost while nobody stands at them: their share of a step's time.

    python -m benchmarks.faultpoints [--sagas N]

A saga of three steps (local, external, local) is run in this process, on an embedded server that ends with it, N
times; then as many points are passed, and as many calls of an author's code made by way of `work`, as those sagas came
to. Both are the fastest of five rounds. The sagas' commits do not wait for the disk: the share is an upper bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
from pydantic import BaseModel

from benchmarks._database import own_database
from sagajobs.saga import Engine, Saga, faultpoints, step
from sagajobs.saga.faultpoints import Point, Work

ROUNDS = 5

STEPS = 3


class Nothing(BaseModel):
    """What the saga is asked to do."""


class Bare(Saga):
    """Three steps that do nothing: whatever they did would make the share smaller."""

    name = "bare"
    Input = Nothing

    @step(irreversible=True)
    def first(self, db: Any) -> None:
        """Do nothing, here."""

    @step(external=True, idempotent=True, irreversible=True)
    def call(self, key: str) -> None:
        """Do nothing, outside."""

    @step(irreversible=True)
    def last(self, db: Any) -> None:
        """Do nothing, here."""


@click.command()
@click.option("--sagas", type=click.IntRange(min=1), default=200, show_default=True, help="Sagas in each round.")
def main(*, sagas: int) -> None:
    """Measure and print the share."""
    with own_database() as database:
        Engine(database).register(Bare)
        passed = _passed()
        whole = _fastest(lambda: [Bare.run({}) for _ in range(sagas)]) / sagas / STEPS
    points = _fastest(lambda: _pass(passed, sagas)) / sagas / STEPS
    click.echo(f"a step: {whole * 1e6:.0f} us; its {passed / STEPS:.1f} points and its call: {points * 1e6:.2f} us")
    click.echo(f"share: {100 * points / whole:.3f} %")


def _passed() -> int:
    """Return how many points one saga passes."""
    passed: list[Point] = []
    with faultpoints.installed(lambda point, _saga_id, _step: passed.append(point)):
        Bare.run({})
    return len(passed)


def _pass(points: int, sagas: int) -> None:
    for _ in range(sagas):
        for _ in range(points):
            faultpoints.reached(Point.BEFORE_CLAIM, "id", "step")
        for _ in range(STEPS):
            faultpoints.work(Work.STEP, "id", "step", _nothing)


def _nothing() -> None:
    pass


def _fastest(act: Callable[[], Any]) -> float:
    """Return the seconds that the fastest of some rounds took."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        act()
        rounds.append(time.perf_counter() - began)
    return min(rounds)


if __name__ == "__main__":
    main()
