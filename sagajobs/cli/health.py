"""`health`: what is wrong, and what there is to do about it."""

from __future__ import annotations

from typing import Any

import click
from kombu.exceptions import OperationalError

from sagajobs.cli import application
from sagajobs.cli.help import examples
from sagajobs.cli.output import echo, json_option, print_json, print_table
from sagajobs.desk import standing
from sagajobs.desk.health import Health
from sagajobs.desk.health import health as how_it_stands
from sagajobs.desk.wording import span

PATIENCE = 1.0
"""Seconds for which workers are waited for: all answer between two messages, or are not there."""


@click.command(epilog=examples("sagajobs health", "sagajobs health --json | jq '.wrong'"))
@json_option
def health(*, as_json: bool) -> None:
    """Say what is wrong and what to do about it: workers, sweeps, backlog, cases, invariants, Cal.com.

    It begins with what to do; if nothing is wrong, with `all is well`. Flower's page Health shows the same.
    """
    database, engine = application.ready_database(), application.engine()
    with database.reading() as connection:
        found = how_it_stands(connection, engine, circuit=application.circuit(), quota=application.quota())
    workers = _workers()
    wrong = standing.advice(found, workers)
    if as_json:
        print_json(_document(found, workers) | {"wrong": [one._asdict() for one in wrong]})
        return
    for one in wrong:
        echo(f"{one.wrong}: {one.then}")
    if not wrong:
        echo("all is well")
    echo()
    for name, value in _facts(found, workers):
        echo(f"{name:<18} {value}")
    echo()
    print_table(
        ("sweep", "last ran", "every", "found"),
        [
            (
                sweep.name,
                standing.ran(sweep.age) + (", late" if sweep.late else ""),
                span(sweep.every),
                f"{sweep.found} {sweep.what}",
            )
            for sweep in found.sweeps
        ],
    )


def _workers() -> int | None:
    try:
        answers = application.celery_app().control.ping(timeout=PATIENCE)
    except (OperationalError, OSError):
        return None
    return len(answers or ())


def _facts(found: Health, workers: int | None) -> list[tuple[str, str]]:
    oldest = found.oldest
    return [
        ("workers", "not known, the broker is away" if workers is None else str(workers)),
        ("unfinished", f"{found.unfinished}, {found.due} due, {found.overdue} overdue"),
        ("oldest", "-" if oldest is None else f"{oldest.id} ({oldest.name}), for {span(oldest.age)}"),
        ("cases", str(found.cases)),
        ("circuit of Cal.com", standing.circuit(found)),
        ("quota of Cal.com", standing.quota(found)),
        ("calls to come", f"{found.calls} at least; time to drain: {standing.drained(found)}"),
        *(
            (
                f"invariant {one.invariant.number}",
                "not looked at yet" if one.rows is None else f"{one.rows} rows break it",
            )
            for one in found.invariants
        ),
    ]


def _document(found: Health, workers: int | None) -> dict[str, Any]:
    return {
        "workers": workers,
        "unfinished": found.unfinished,
        "due": found.due,
        "overdue": found.overdue,
        "oldest": None if found.oldest is None else {"id": found.oldest.id, "seconds": found.oldest.age},
        "cases": found.cases,
        "circuit": None if found.circuit is None else str(found.circuit.state),
        "calls_to_come": found.calls,
        "drained_in": found.drained_in,
        "invariants": {str(one.invariant.number): one.rows for one in found.invariants},
        "sweeps": {sweep.name: {"age": sweep.age, "late": sweep.late} for sweep in found.sweeps},
    }
