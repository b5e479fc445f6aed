"""`sagas list` and `sagas find`: which sagas there are, and which one a person means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from sagajobs.cli import completing
from sagajobs.cli.application import engine, load_kinds, ready_database
from sagajobs.cli.help import examples
from sagajobs.cli.options import limit_option, name_option, older_than_option, tell_of_unknown_kind
from sagajobs.cli.output import json_option, print_json, print_list
from sagajobs.desk import queries, searching
from sagajobs.desk.wording import span
from sagajobs.saga.states import SagaState

STYLES = {
    SagaState.COMPLETED: "green",
    SagaState.COMPENSATED: "yellow",
    SagaState.MANUAL_REVIEW_REQUIRED: "bold red",
}
"""How a state looks on a terminal."""


@click.command(
    "list",
    epilog=examples(
        "sagajobs sagas list --state running --older-than 2h",
        'sagajobs sagas list --told "needs us"',
        "sagajobs sagas list --json --limit 1000 | jq -r '.[].id'",
    ),
)
@click.option("--state", type=click.Choice([str(state) for state in SagaState]), help="Only sagas in this state.")
@name_option
@older_than_option("sagas that were started")
@click.option("--told", type=click.Choice(list(searching.STATES_OF)), help="Only sagas whose customer is told this.")
@limit_option("sagas")
@click.option(
    "--before",
    metavar="ID",
    shell_complete=completing.saga_ids,
    help="Only sagas started before this one: the next page, from the last id.",
)
@json_option
def list_sagas(
    *,
    state: str | None,
    name: str | None,
    older_than: float,
    told: str | None,
    limit: int,
    before: str | None,
    as_json: bool,
) -> None:
    """List sagas, the newest first.

    STEP is the one in work, the one that failed or, of a saga in review, the one that a person is asked about; ATTEMPTS
    the most that any step of the saga took.
    """
    goes_on_at = None
    with ready_database().reading() as connection:
        narrow: dict[str, Any] = {
            "state": SagaState(state) if state else None,
            "name": name,
            "older_than": older_than,
            "before": queries.full_id(connection, before) if before else None,
            "limit": limit,
        }
        if told is None:
            found = queries.saga_list(connection, **narrow)
        else:
            load_kinds()  # what a customer is told is for a saga's class to say
            page = searching.told(connection, engine(), told, **narrow)
            found, goes_on_at = page.rows, page.goes_on_at
    if not found:
        tell_of_unknown_kind(name)
    _print(found, as_json=as_json)
    if goes_on_at is not None and len(found) < limit:
        click.echo(f"{searching.LOOKS} sagas were looked at; go on with --before {goes_on_at}", err=True)


@click.command(epilog=examples("sagajobs sagas find 1f6c2a9e", "sagajobs sagas find 4711"))
@click.argument("wanted", metavar="TEXT")
@json_option
def find(*, wanted: str, as_json: bool) -> None:
    """Find sagas by what is at hand, the newest first.

    TEXT is a saga's id or its first 8 characters or more, an appointment's number, or a booking's uid at Cal.com.
    """
    with ready_database().reading() as connection:
        found = searching.search(connection, wanted)
    _print(found, as_json=as_json)


def _print(found: Sequence[queries.ListedSaga], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(row) for row in found])
    else:
        print_list(HEADINGS, list_rows(found), "no sagas", styles=list_styles(found))


HEADINGS = ("id", "kind", "state", "step", "age", "attempts")


def list_rows(found: Sequence[queries.ListedSaga]) -> list[Sequence[str]]:
    """Return a row for each saga, below `HEADINGS`."""
    return [(row.id, row.name, _state(row), row.step or "-", span(row.age_seconds), str(row.attempts)) for row in found]


def list_styles(found: Sequence[queries.ListedSaga]) -> list[str]:
    """Return how each row looks on a terminal."""
    return ["" if row.abandoned else STYLES.get(row.state, "") for row in found]


def _state(row: queries.ListedSaga) -> str:
    return f"{row.state}, abandoned" if row.abandoned else row.state
