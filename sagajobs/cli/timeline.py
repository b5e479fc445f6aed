"""`sagas show`: everything that happened to one saga."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from sqlalchemy import RowMapping

from sagajobs.cli import queries
from sagajobs.cli.application import engine, load_kind, ready_database
from sagajobs.cli.output import cause, echo, json_option, moment, pairs, print_json, print_table, span
from sagajobs.saga import SagaHandle, SagaState, StepState

_PRIVATE_DETAIL = ("who", "why", "reference")
"""What is shown of an operator's act with `--private` only: he may have named a customer."""

_PUBLIC_ERROR = ("step", "class", "kind", "attempt", "refused")
"""What may be shown of an error without `--private`: its message may quote a customer."""


@click.command()
@click.argument("saga_id", metavar="ID")
@click.option("--private", is_flag=True, help="Show input, results, messages of errors and who did what by hand, too.")
@json_option
def show(*, saga_id: str, private: bool, as_json: bool) -> None:
    """Show a saga: where it stands, its steps, and its history.

    ID is the saga's id, or its first 8 characters or more.
    """
    with ready_database().reading() as connection:
        full = queries.full_id(connection, saga_id)
        document = _document(
            queries.saga(connection, full),
            queries.steps(connection, full),
            queries.events(connection, full),
            queries.reviews(connection, full),
            private=private,
        )
    # What a customer may be told is the saga's own word, which only its class knows.
    load_kind(document["name"])
    document["public_status"] = SagaHandle(full, engine=engine()).public_status()
    if as_json:
        print_json(document)
    else:
        _print(document, private=private)


def _document(
    saga: RowMapping,
    steps: Sequence[RowMapping],
    events: Sequence[RowMapping],
    reviews: Sequence[RowMapping],
    *,
    private: bool,
) -> dict[str, Any]:
    hidden = set() if private else {"input", "idempotency_key", "output", "evidence", "closed_by", "why"}

    def shown(row: RowMapping) -> dict[str, Any]:
        return {
            key: _error(value, private=private) if key == "error" else value
            for key, value in row.items()
            if key not in hidden
        }

    return {
        **shown(saga),
        "steps": [shown(row) for row in steps],
        "events": [{**shown(row), "detail": _detail(row["detail"], private=private)} for row in events],
        "reviews": [shown(row) for row in reviews],
    }


def _detail(detail: Mapping[str, Any] | None, *, private: bool) -> dict[str, Any] | None:
    if detail is None:
        return None
    return {key: value for key, value in detail.items() if private or key not in _PRIVATE_DETAIL}


def _error(error: Mapping[str, Any] | None, *, private: bool) -> dict[str, Any] | None:
    if error is None:
        return None
    return {key: value for key, value in error.items() if private or key in _PUBLIC_ERROR}


def _print(document: dict[str, Any], *, private: bool) -> None:
    for line in _header(document, private=private):
        echo(line)
    echo()
    print_table(
        ("step", "state", "attempts", "undos", "took", "error", "now"),
        [
            (
                step["name"],
                step["state"],
                str(step["attempts"]),
                str(step["undo_attempts"]),
                span(step["seconds"]),
                cause(step["error"]) if step["error"] else "-",
                _waiting(step),
            )
            for step in document["steps"]
        ],
    )
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


def _header(document: dict[str, Any], *, private: bool) -> list[str]:
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
        facts["review"] = f"{review['reason']} (since {moment(review['opened_at'])}{closed})"
    if private:
        facts["input"] = pairs(document["input"])
    width = max(map(len, facts))
    return [f"{name.ljust(width)}  {value}" for name, value in facts.items()]


def _waiting(step: Mapping[str, Any]) -> str:
    """Say what the step waits for, or who works on it."""
    if step["state"] in (StepState.RUNNING, StepState.UNDOING) or (step["leased_for"] or 0) > 0:
        if (step["leased_for"] or 0) > 0:
            return f"{step['owner']} for {span(step['leased_for'])} more"
        return "its worker is gone"
    if step["state"] in (StepState.WAITING, StepState.UNKNOWN) and (step["due_in"] or 0) > 0:
        return f"due in {span(step['due_in'])}"
    return "-"
