"""`health`: what is wrong, and what there is to do about it."""

from __future__ import annotations

from typing import Any

import click

from sagajobs.booking.findings import word
from sagajobs.cli import application
from sagajobs.cli.help import examples
from sagajobs.cli.output import echo, json_option, print_json, print_table
from sagajobs.desk import standing
from sagajobs.desk.answering import workers_answering
from sagajobs.desk.health import Health
from sagajobs.desk.health import health as how_it_stands
from sagajobs.desk.wording import span


@click.command(epilog=examples("sagajobs health", "sagajobs health --json | jq '.wrong'"))
@json_option
def health(*, as_json: bool) -> None:
    """Say what is wrong and what to do about it: workers, sweeps, backlog, cases, invariants, Cal.com.

    It begins with what to do; if nothing is wrong, with `all is well`. Flower's page Health shows the same.
    """
    database, engine = application.ready_database(), application.engine()
    with database.reading() as connection:
        found = how_it_stands(connection, engine, circuit=application.circuit(), quota=application.quota())
    workers = workers_answering(application.celery_app())
    wrong = standing.advice(found, workers)
    if as_json:
        print_json(_document(found, workers) | {"wrong": [one._asdict() for one in wrong]})
        return
    for one in wrong:
        echo(one.wrong)
        echo(f"  → {one.then}")
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
                f"{sweep.what}: {sweep.found}",
            )
            for sweep in found.sweeps
        ],
    )


def _facts(found: Health, workers: int | None) -> list[tuple[str, str]]:
    left, oldest = found.backlog, found.backlog.oldest
    return [
        ("workers", standing.workers(workers)),
        ("unfinished", f"{left.unfinished}, {left.due} due, {left.overdue} overdue"),
        ("oldest", "-" if oldest is None else f"{oldest.id} ({oldest.name}), for {span(oldest.age)}"),
        ("cases", str(left.cases)),
        ("left to a person", standing.differences(found)),
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
    left, oldest = found.backlog, found.backlog.oldest
    return {
        "workers": workers,
        "unfinished": left.unfinished,
        "due": left.due,
        "overdue": left.overdue,
        "oldest": None if oldest is None else {"id": oldest.id, "seconds": oldest.age},
        "cases": left.cases,
        "findings": {word(what): count for what, count in found.findings.items()},
        "circuit": None if found.circuit is None else str(found.circuit.state),
        "calls_to_come": found.calls,
        "drained_in": found.drained_in,
        "direct_for": found.direct_for,
        "invariants": {str(one.invariant.number): one.rows for one in found.invariants},
        "sweeps": {sweep.name: {"age": sweep.age, "late": sweep.late} for sweep in found.sweeps},
    }
