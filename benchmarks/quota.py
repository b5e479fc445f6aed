"""How bookings drain through Cal.com's rate limit: real workers, in real time, some minutes.

    python -m benchmarks.quota [--bookings N] [--per-minute N]

It starts servers and workers of its own, which end with it. The simulator enforces the limit that the quota is set to.
No booking is urgent, so they share the part of the quota that is left to those. Messages and commits are those of all
processes, the messages that start sweeps left out; "put off on record" counts what was claimed, and not sent after all.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import requests
from sqlalchemy import text

from benchmarks._fleet import CHILDREN, WORKERS, workers
from benchmarks._home import own_home

MINUTE = 60.0


@click.command()
@click.option("--bookings", type=click.IntRange(min=1), default=300, show_default=True, help="Started at once.")
@click.option("--per-minute", type=click.IntRange(min=1), default=120, show_default=True, help="Cal.com's limit.")
def main(*, bookings: int, per_minute: int) -> None:
    """Measure and print a table."""
    with own_home(
        SAGAJOBS_CALCOM_QUOTA=str(per_minute),
        SAGAJOBS_RECONCILE_INTERVAL="86400",  # its calls would be counted with those of the bookings
    ) as home:
        os.environ["BENCH_COUNTS"] = str(home / "counts")
        figures = _measure(home, bookings, per_minute)
    click.echo(f"{bookings} bookings, {per_minute} calls a minute, {WORKERS} x {CHILDREN} processes")
    for name, figure in figures.items():
        click.echo(f"{name:32}{figure:>10,.1f}" if isinstance(figure, float) else f"{name:32}{figure:>10,}")


def _measure(home: Path, bookings: int, per_minute: int) -> dict[str, Any]:
    # The environment is read when the application is imported.
    from benchmarks._counting import engine  # noqa: PLC0415 - see above
    from sagajobs import AppointmentCreationSaga, migrations  # noqa: PLC0415 - see above
    from sagajobs.root import servers  # noqa: PLC0415 - see above

    migrations.upgrade(engine.database.engine)
    simulator = f"{servers().calcom}/_simulator"
    requests.post(f"{simulator}/switches", json={"rate_limit_per_minute": per_minute}, timeout=5).raise_for_status()
    first = (datetime.now(UTC) + timedelta(days=2)).replace(hour=8, minute=0, second=0, microsecond=0)
    with workers("benchmarks._counting", home):
        began = time.monotonic()
        handles = [AppointmentCreationSaga.enqueue(_request(n, first)) for n in range(bookings)]
        ends = Counter(handle.wait(60 + 2 * MINUTE * bookings / per_minute) for handle in handles)
        seconds = time.monotonic() - began
    if set(ends) != {"completed"}:
        raise click.ClickException(f"bookings ended as {dict(ends)}")
    calls = requests.get(f"{simulator}/requests", timeout=5).json()["requests"]
    with engine.database.reading() as connection:
        attempts = connection.execute(text("SELECT sum(attempts) FROM saga_steps WHERE external")).scalar_one()
        lines = connection.execute(text("SELECT count(*) FROM saga_events")).scalar_one()
        waits = connection.execute(text("SELECT count(*) FROM saga_events WHERE event = 'step_retry'")).scalar_one()
    engine.database.close()
    counts = Counter((home / "counts").read_text().split())
    return {
        "seconds": seconds,
        "calls": len(calls),
        "calls a minute": len(calls) * MINUTE / seconds,
        "calls in the fullest minute": _fullest(sorted(call["at"] for call in calls)),
        "answers 429": sum(call["status"] == requests.codes.too_many_requests for call in calls),
        "attempts wasted": attempts - bookings,
        "put off on record": waits,
        "lines of history a booking": lines / bookings,
        "messages a booking": counts["message"] / bookings,
        "commits a booking": counts["commit"] / bookings,
    }


def _request(number: int, first: datetime) -> dict[str, Any]:
    return {
        "customer": {"name": f"Customer {number}", "email": f"customer{number}@example.com", "time_zone": "UTC"},
        "event_type_id": number % 5 + 1,
        "start": first + timedelta(minutes=30 * (number // 5)),
        "duration_minutes": 30,
    }


def _fullest(times: list[float]) -> int:
    return max(sum(1 for at in times[n:] if at < first + MINUTE) for n, first in enumerate(times))


if __name__ == "__main__":
    main()
