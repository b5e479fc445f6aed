"""`sagas list`: which sagas there are."""

from __future__ import annotations

from dataclasses import asdict

import click

from sagajobs.cli.application import ready_database
from sagajobs.cli.output import json_option, print_json, print_list
from sagajobs.desk import queries
from sagajobs.desk.wording import span
from sagajobs.saga.states import SagaState

STYLES = {
    SagaState.COMPLETED: "green",
    SagaState.COMPENSATED: "yellow",
    SagaState.MANUAL_REVIEW_REQUIRED: "bold red",
}
"""How a state looks on a terminal."""


@click.command("list")
@click.option("--state", type=click.Choice([str(state) for state in SagaState]), help="Only sagas in this state.")
@click.option("--name", metavar="KIND", help="Only sagas of this kind, such as appointment_creation.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="So many at most.")
@click.option("--before", metavar="ID", help="Only sagas started before this one: the next page, from the last id.")
@json_option
def list_sagas(*, state: str | None, name: str | None, limit: int, before: str | None, as_json: bool) -> None:
    """List sagas, the newest first.

    STEP is the one in work, the one that failed or, of a saga in review, the one that a person is asked about; ATTEMPTS
    the most that any step of the saga took.
    """
    with ready_database().reading() as connection:
        found = queries.saga_list(
            connection,
            state=SagaState(state) if state else None,
            name=name,
            before=queries.full_id(connection, before) if before else None,
            limit=limit,
        )
    if as_json:
        print_json([asdict(row) for row in found])
        return
    print_list(
        ("id", "kind", "state", "step", "age", "attempts"),
        [(row.id, row.name, _state(row), row.step or "-", span(row.age_seconds), str(row.attempts)) for row in found],
        "no sagas",
        styles=["" if row.abandoned else STYLES.get(row.state, "") for row in found],
    )


def _state(row: queries.ListedSaga) -> str:
    return f"{row.state}, abandoned" if row.abandoned else row.state
