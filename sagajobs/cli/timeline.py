"""`sagas show`: everything that happened to one saga."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from sagajobs.cli import completing
from sagajobs.cli.application import engine, load_kind, ready_database
from sagajobs.cli.help import examples
from sagajobs.cli.output import echo, json_option, print_json, print_table
from sagajobs.desk import queries
from sagajobs.desk.documents import saga_document
from sagajobs.desk.wording import cause, doing, moment, pairs, span
from sagajobs.saga import SagaState

STEP_HEADINGS = ("step", "state", "attempts", "undos", "took", "error", "now")


@click.command(
    epilog=examples(
        "sagajobs sagas show 1f6c2a9e",
        "sagajobs sagas show 1f6c2a9e --json | jq '.steps[] | select(.state == \"failed\")'",
    )
)
@click.argument("saga_id", metavar="ID", shell_complete=completing.saga_ids)
@click.option("--private", is_flag=True, help="Show input, results, messages of errors and who did what by hand, too.")
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
        _print(document, private=private)


def _print(document: dict[str, Any], *, private: bool) -> None:
    for line in header(document, private=private):
        echo(line)
    echo()
    print_table(STEP_HEADINGS, step_rows(document))
    for step in document["steps"]:
        for name in ("receipt", "output"):
            if step.get(name) is not None:
                echo(f"{step['name']}, {'undone' if name == 'receipt' else 'result'}: {pairs(step[name])}")
    echo()
    print_table(
        ("after", "event", "step", "attempt", "detail"),
        [
            (
                f"+{event['after']:.3f} s",
                event["event"],
                event["step"] or "-",
                str(event["attempt"] or "-"),
                pairs(event["detail"]),
            )
            for event in document["events"]
        ],
    )


def step_rows(document: dict[str, Any]) -> list[Sequence[str]]:
    """Return a row for each step, below `STEP_HEADINGS`."""
    return [
        (
            step["name"],
            step["state"],
            str(step["attempts"]),
            str(step["undo_attempts"]),
            span(step["seconds"]),
            cause(step["error"]) if step["error"] else "-",
            doing(step),
        )
        for step in document["steps"]
    ]


def header(document: dict[str, Any], *, private: bool) -> list[str]:
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
    for review in document["reviews"]:
        closed = f", {review['resolution']} {moment(review['closed_at'])}" if review["closed_at"] else ", open"
        then = "" if review["closed_at"] else f": see sagajobs explain {document['id']}"
        facts["review"] = f"{review['reason']} (since {moment(review['opened_at'])}{closed}){then}"
    if private:
        facts["input"] = pairs(document["input"])
    width = max(map(len, facts))
    return [f"{name.ljust(width)}  {value}" for name, value in facts.items()]
