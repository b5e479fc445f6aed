"""How long a saga waits for a lock: many that want few appointments, carried out by real workers.

    python -m benchmarks.locks [--sagas N] [--appointments N]

It starts servers and workers of its own, which end with it. "Handed on" is the time from the commit that ends a saga
to the moment in which the next one works on the same appointment (SPEC 8: 95 of 100 within 100 ms); the "whole wait"
runs from the start of a saga, and grows with the number of those before it.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click
from sqlalchemy import text

from benchmarks._fleet import CHILDREN, WORKERS, workers
from benchmarks._home import own_home

_HANDED_ON = text("""
    SELECT extract(epoch FROM began - ended) AS seconds FROM (
        SELECT c.at AS began, lag(g.ended_at) OVER (PARTITION BY c.appointment ORDER BY c.at) AS ended
        FROM contending c JOIN sagas g ON g.id = c.saga_id) AS turns
    WHERE ended IS NOT NULL
""")
_WAITED = text("""
    SELECT extract(epoch FROM c.at - g.created_at) AS seconds FROM contending c JOIN sagas g ON g.id = c.saga_id
""")


@click.command()
@click.option("--sagas", type=click.IntRange(min=2), default=100, show_default=True, help="Sagas, started at once.")
@click.option("--appointments", type=click.IntRange(min=1), default=10, show_default=True, help="What they work on.")
def main(*, sagas: int, appointments: int) -> None:
    """Measure and print a table."""
    with own_home() as home:
        handed_on, waited, seconds = _measure(home, sagas, appointments)
    _show({"handed on": handed_on, "whole wait": waited})
    click.echo(f"{sagas} sagas, {appointments} appointments, {WORKERS} x {CHILDREN} processes: {seconds:.1f} s")


def _measure(home: Path, sagas: int, appointments: int) -> tuple[list[float], list[float], float]:
    # The environment is read when the application is imported.
    from benchmarks._contending import Contending, engine  # noqa: PLC0415 - see above
    from sagajobs import migrations  # noqa: PLC0415 - see above

    migrations.upgrade(engine.database.engine)
    with engine.database.transaction() as connection:
        connection.execute(
            text("CREATE TABLE contending (saga_id uuid, appointment int, at timestamptz DEFAULT clock_timestamp())")
        )
    with workers("benchmarks._contending", home):
        _settle([Contending.enqueue({"appointment": -n}) for n in range(20)])  # every process has connected
        with engine.database.transaction() as connection:
            connection.execute(text("TRUNCATE contending"))
        began = time.monotonic()
        _settle([Contending.enqueue({"appointment": n % appointments}) for n in range(sagas)])
        seconds = time.monotonic() - began
    with engine.database.reading() as connection:
        handed_on = [float(row.seconds) for row in connection.execute(_HANDED_ON)]
        waited = [float(row.seconds) for row in connection.execute(_WAITED)]
    engine.database.close()
    return handed_on, waited, seconds


def _settle(handles: list) -> None:  # type: ignore[type-arg]  # imported where the environment is set
    ends = {handle.wait(120) for handle in handles}
    if ends != {"completed"}:
        raise click.ClickException(f"sagas ended as {', '.join(sorted(map(str, ends)))}")


def _show(measured: dict[str, list[float]]) -> None:
    click.echo(f"{'':12}{'n':>6}{'p50':>10}{'p95':>10}{'max':>10}")
    for name, seconds in measured.items():
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
        figures = "".join(f"{1000 * value:>7.0f} ms" for value in (cuts[49], cuts[94], max(seconds)))
        click.echo(f"{name:12}{len(seconds):>6}{figures}")


if __name__ == "__main__":
    main()
