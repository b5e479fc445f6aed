"""`sagas show`: everything that happened to one saga."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from sagajobs.cli import completing
from sagajobs.cli.application import engine, load_kind, ready_database
from sagajobs.cli.help import examples
from sagajobs.cli.output import echo, json_option, print_json, print_table
from sagajobs.desk import queries
from sagajobs.desk.documents import data_of, saga_document
from sagajobs.desk.wording import cause, doing, moment, pairs, since_start, span, trouble
from sagajobs.saga import SagaState

STEP_HEADINGS = ("step", "state", "attempts", "undos", "took", "error", "now")


@click.command(
    epilog=examples(
        "sagajobs sagas show 1f6c2a9e",
        "sagajobs sagas show 1f6c2a9e --json | jq '.steps[] | select(.state == \"failed\")'",
    )
)
@click.argument("saga_id", metavar="ID", shell_complete=completing.saga_ids)
@click.option("--private", is_flag=True, help="Mask no value, and show messages of errors and who did what by hand.")
@json_option
def show(*, saga_id: str, private: bool, as_json: bool) -> None:
    """Show a saga: where it stands, its steps, and its history.

    ID is the saga's id, or its first 8 characters or more.
    """
    database = ready_database()
    with database.reading() as connection:
        full = queries.full_id(connection, saga_id)
        load_kind(queries.saga(connection, full)["name"])  # what a customer may be told is for its class to say
        document = saga_document(connection, engine(), full, private=private)
    if as_json:
        print_json(document)
    else:
        _print(document)


def _print(document: dict[str, Any]) -> None:
    for line in header(document):
        echo(line)
    echo()
    print_table(STEP_HEADINGS, step_rows(document["steps"]))
    echo()
    for name, said in data_of(document):
        echo(f"{name}: {said}")
    echo()
    print_table(
        ("after", "event", "step", "attempt", "detail"),
        [
            (
                since_start(event["after"]),
                event["event"],
                event["step"] or "-",
                str(event["attempt"] or "-"),
                pairs(event["detail"]),
            )
            for event in document["events"]
        ],
    )


def step_rows(steps: Sequence[Mapping[str, Any]]) -> list[Sequence[str]]:
    """Return a row for each step, below `STEP_HEADINGS`."""
    return [
        (
            step["name"],
            step["state"],
            str(step["attempts"]),
            str(step["undo_attempts"]),
            span(step["seconds"]),
            trouble(step),
            doing(step),
        )
        for step in steps
    ]


def header(document: Mapping[str, Any]) -> list[str]:
    """Return what is said of a saga as a whole, line by line."""
    state = document["state"] + (f" (was {document['paused_from']})" if document["paused_from"] else "")
    if document["state"] == SagaState.MANUAL_REVIEW_REQUIRED and document["ended_at"]:
        state += ", abandoned"
    ago = span((document["now"] - document["created_at"]).total_seconds())
    facts = {
        "saga": document["id"],
        "kind": f"{document['name']} version {document['version']}",
        "state": state,
        "customer sees": document["public_status"],
        "started": f"{moment(document['created_at'])}, {ago} ago",
        "took" if document["ended_at"] else "for": span(document["seconds"]),
        "useful until": moment(document["useful_until"]),
    }
    if document["error"]:
        # A cancel turns a saga round without a step that failed; past the pivot one that failed turns nothing round.
        step = document["error"].get("step")
        facts["because of"] = (f"{step}: " if step else "") + cause(document["error"])
    if document["next_at"]:
        facts["next look"] = f"in {span((document['next_at'] - document['now']).total_seconds())}"
    told = [*facts.items(), *(("review", said) for said in _reviews(document))]
    width = max(len(name) for name, _ in told)
    return [f"{name.ljust(width)}  {value}" for name, value in told]


def _reviews(document: Mapping[str, Any]) -> list[str]:
    """Return what is said of a saga's cases: each that is open, the one that was settled last, how many before it."""
    settled = [review for review in document["reviews"] if review["closed_at"]]
    told = [
        f"{review['reason']} (since {moment(review['opened_at'])}, open): see sagajobs explain {document['id']}"
        for review in document["reviews"]
        if not review["closed_at"]
    ]
    if settled:
        last = max(settled, key=lambda review: review["closed_at"])
        when = f"since {moment(last['opened_at'])}, {last['resolution']} {moment(last['closed_at'])}"
        before = f"; {len(settled) - 1} settled before it" if len(settled) > 1 else ""
        told.append(f"{last['reason']} ({when}){before}")
    return told
