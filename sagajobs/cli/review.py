"""`sagas review` and `explain`: what waits for a person, and what can be done about it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from sagajobs.cli import completing, walk
from sagajobs.cli.application import engine, ready_database
from sagajobs.cli.help import examples
from sagajobs.cli.operator import case_of, print_explanation, who_option
from sagajobs.cli.options import limit_option, sieve, sieve_options, tell_of_unknown_kind
from sagajobs.cli.output import json_option, print_json, print_list
from sagajobs.desk.documents import case_document
from sagajobs.desk.wording import coming, span
from sagajobs.saga.cases import Case
from sagajobs.saga.explain import explain as explain_case
from sagajobs.saga.statements import URGENT_BEFORE

_NOTHING = "nothing waits for a person"


@click.command(
    epilog=examples(
        "sagajobs sagas review                          # on a terminal: one case after the other",
        "sagajobs sagas review --list --cause SlotTaken",
        "sagajobs sagas review --json | jq -r '.[].case'",
    )
)
@sieve_options
@limit_option("cases")
@click.option("--list", "only_list", is_flag=True, help="Only list them, on a terminal, too.")
@who_option
@json_option
def review(*, limit: int, only_list: bool, who: str | None, as_json: bool, **chosen: Any) -> None:
    """Settle what waits for a person, one case after the other.

    The nearest appointment comes first. Each case is shown with what every remedy would do; one that you choose is done
    when you have said why and confirmed it. In a pipe, and with --list or --json, cases are only listed; `explain ID`
    then says what can be done about one.
    """
    ready_database()
    found = engine().review.cases(limit + 1, sieve(**chosen))
    found, more = found[:limit], len(found) > limit
    if not found:
        tell_of_unknown_kind(chosen["name"])
    if as_json:
        print_json([case_document(case, private=False) for case in found])
    elif found and not only_list and sys.stdin.isatty() and sys.stdout.isatty():
        walk.through(found, who=who)
    else:
        _list(found, more=more)


def _list(found: Sequence[Case], *, more: bool) -> None:
    print_list(
        ("case", "saga", "kind", "step", "reason", "for", "needed"),
        [
            (
                str(case.number),
                case.saga_id,
                case.name,
                case.step or "-",
                case.reason,
                span(case.age),
                coming(case.urgent_in),
            )
            for case in found
        ],
        _NOTHING,
        styles=["bold red" if (case.urgent_in or URGENT_BEFORE) < URGENT_BEFORE else "" for case in found],
    )
    if found:  # for a person: what reads the list is not to meet it
        click.echo("what can be done about one: sagajobs explain CASE", err=True)
    if more:
        click.echo(f"there are more; these {len(found)} come first: see --limit", err=True)


@click.command(
    epilog=examples(
        "sagajobs sagas explain 17",
        "sagajobs sagas explain 1f6c2a9e --private",
    )
)
@click.argument("given", metavar="ID", shell_complete=completing.cases)
@click.option("--private", is_flag=True, help="Show the evidence and what calls would say about people, too.")
@json_option
def explain(*, given: str, private: bool, as_json: bool) -> None:
    """Say what a case is about and what each remedy would do, down to the calls to Cal.com; nothing is changed.

    ID is the case's number, or the saga's id or its first 8 characters or more.
    """
    case = case_of(given)
    print_explanation(explain_case(engine(), case.number, private=private), private=private, as_json=as_json)
