"""How long it takes until all is done after every worker was killed, for sagas and for bare chains of tasks.

    python -m benchmarks.recovery [--works N] [--rounds N]

It starts servers and workers of its own, which end with it. When half of the works have acted outside, all workers are
killed (SIGKILL) and started again at once. The seconds count from then, with all that a worker needs to start.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from sqlalchemy import text

from benchmarks._fleet import CHILDREN, WORKERS, workers
from benchmarks._home import own_home

LONGEST = 180.0
"""Seconds after which what is not done counts as never done."""

_ACTED = text("SELECT count(DISTINCT work) FROM effects")
_ENDED = text("SELECT count(DISTINCT work) FROM notes WHERE step = 'end'")
_TWICE = text("SELECT count(*) - count(DISTINCT work) FROM effects")


@click.command()
@click.option("--works", type=click.IntRange(min=2), default=500, show_default=True, help="Started at once.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="How often for the sagas.")
def main(*, works: int, rounds: int) -> None:
    """Measure and print a table."""
    with own_home() as home:
        _measure(home, works, rounds)


def _measure(home: Path, works: int, rounds: int) -> None:
    # The environment is read when the application is imported.
    from sagajobs.root import servers  # noqa: PLC0415 - see above

    os.environ["BENCH_BARE_BROKER"] = servers().broker
    from benchmarks import _enduring  # noqa: PLC0415 - see above
    from sagajobs import migrations  # noqa: PLC0415 - see above

    database = _enduring.engine.database
    migrations.upgrade(database.engine)
    with database.transaction() as connection:
        connection.execute(text(_enduring.TABLES))
    click.echo(f"{works} works, {WORKERS} x {CHILDREN} processes, all killed when half of them had acted")
    click.echo(f"{'':12}{'undisturbed':>14}{'after the kill':>16}{'left then':>12}{'not done':>10}{'twice':>8}")
    saga: tuple[str, Callable[[int], Any]] = (
        "benchmarks._enduring",
        lambda _n: _enduring.Enduring.enqueue({}),
    )
    chain: tuple[str, Callable[[int], Any]] = (
        "benchmarks._enduring.bare",
        lambda n: _enduring.enqueue_bare(f"bare-{n}"),
    )
    for name, (app, enqueue), times in (("sagas", saga, rounds), ("bare chains", chain, 1)):
        calm = _round(database, app, home, works, enqueue, kill=False)["seconds"]
        for _ in range(times):
            found = _round(database, app, home, works, enqueue, kill=True)
            click.echo(
                f"{name:12}{calm:>12.1f} s{found['seconds']:>14.1f} s{found['left']:>12}{found['undone']:>10}"
                f"{found['twice']:>8}"
            )
    database.close()


def _round(
    database: Any, app: str, home: Path, works: int, enqueue: Callable[[int], Any], *, kill: bool
) -> dict[str, float]:
    with database.transaction() as connection:
        connection.execute(text("TRUNCATE notes, effects"))
    with workers(app, home) as fleet:
        enqueue(-1)  # a worker is there
        _await(database, _ENDED, 1)
        with database.transaction() as connection:
            connection.execute(text("TRUNCATE notes, effects"))
        began = time.monotonic()
        for n in range(works):
            enqueue(n)
        left = works
        if kill:
            _await(database, _ACTED, works // 2)
            fleet.kill()
            left = works - _ask(database, _ENDED)
            began = time.monotonic()
            fleet.start()
        _await(database, _ENDED, works)
        seconds = time.monotonic() - began
    return {
        "seconds": seconds,
        "left": left,
        "undone": works - _ask(database, _ENDED),
        "twice": _ask(database, _TWICE),
    }


def _ask(database: Any, question: Any) -> int:
    with database.reading() as connection:
        return int(connection.execute(question).scalar_one())


def _await(database: Any, question: Any, number: int) -> None:
    over, pause = time.monotonic() + LONGEST, threading.Event()
    while _ask(database, question) < number and time.monotonic() < over:
        pause.wait(0.02)


if __name__ == "__main__":
    main()
