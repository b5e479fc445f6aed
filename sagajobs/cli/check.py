"""`check`: what a deployment of the code in hand would strand."""

from __future__ import annotations

import sys
from typing import Any

import click

from sagajobs.cli.application import engine, load_kinds, ready_database
from sagajobs.cli.exits import Exit
from sagajobs.cli.help import examples
from sagajobs.cli.output import echo, json_option, print_json, print_table
from sagajobs.saga import inflight
from sagajobs.saga.inflight import UNKNOWN, Held, Stranded

WHAT_TO_DO = (
    "Do not deploy this yet: register the former class as well (`former=`), give the changed saga a name of its own, "
    "or wait until these have ended."
)

WHERE = "Is a kind not known here because this folder is not the workers'? Type it where their celeryconfig.py is."


@click.command(epilog=examples("sagajobs check --in-flight"))
@click.option("--in-flight", is_flag=True, required=True, help="Hold every saga that has not ended against this code.")
@json_option
def check(*, in_flight: bool, as_json: bool) -> None:
    """Say which sagas the code in hand could not finish; exit status 3 if there are any.

    Run it with the new code, on the live database, before a deployment: it changes nothing. It looks at what the steps
    were when a saga was recorded, and at whether today's `Input` takes what was stored.
    """
    del in_flight  # the one thing to check so far, said aloud so that there can be others
    ready_database()
    load_kinds()
    held = inflight.check(engine())
    if as_json:
        print_json({"in_flight": held.in_flight, "stranded": [_document(one) for one in held.stranded]})
    else:
        _show(held)
    if held.stranded:
        sys.exit(Exit.STRANDED)


def _document(one: Stranded) -> dict[str, Any]:
    return {
        "name": one.name,
        "version": one.version,
        "sagas": one.count,
        "states": dict(one.states),
        "reason": one.reason,
        "example": one.example,
    }


def _show(held: Held) -> None:
    if held.stranded:
        print_table(
            ("kind", "version", "sagas", "states", "example", "reason"),
            [
                (
                    one.name,
                    str(one.version),
                    str(one.count),
                    ", ".join(f"{count} {state}" for state, count in one.states.most_common()),
                    one.example,
                    one.reason,
                )
                for one in held.stranded
            ],
        )
    count = sum(one.count for one in held.stranded)
    echo(f"{held.in_flight} sagas in flight, {count} that this code cannot finish")
    if held.stranded:
        echo(WHAT_TO_DO)
    if any(one.reason == UNKNOWN for one in held.stranded):
        echo(WHERE)
