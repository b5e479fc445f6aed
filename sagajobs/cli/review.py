"""`sagas review`, `explain`, and the remedies: what waits for a person, and how he settles it."""

from __future__ import annotations

from typing import Any

import click

from sagajobs.cli.application import engine, ready_database
from sagajobs.cli.operator import (
    acting,
    case_of,
    print_done,
    print_explanation,
    refused_as_typed,
    signature,
    typed,
)
from sagajobs.cli.output import json_option, print_json, print_list
from sagajobs.desk.documents import case_document
from sagajobs.desk.wording import span
from sagajobs.saga.explain import explain as explain_case
from sagajobs.saga.remedies import Remedy
from sagajobs.saga.statements import URGENT_BEFORE

_ID = click.argument("given", metavar="ID")


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="So many at most.")
@json_option
def review(*, limit: int, as_json: bool) -> None:
    """List what waits for a person, the nearest appointment first.

    `explain ID` says what can be done about one, and what each remedy would do.
    """
    ready_database()
    found = engine().review.cases(limit)
    if as_json:
        print_json([case_document(case, private=False) for case in found])
        return
    print_list(
        ("case", "saga", "kind", "step", "reason", "for", "needed in"),
        [
            (
                str(case.number),
                case.saga_id,
                case.name,
                case.step or "-",
                case.reason,
                span(case.age),
                span(case.urgent_in),
            )
            for case in found
        ],
        "nothing waits for a person",
        styles=["bold red" if (case.urgent_in or URGENT_BEFORE) < URGENT_BEFORE else "" for case in found],
    )


@click.command()
@_ID
@click.option("--private", is_flag=True, help="Show the evidence and what calls would say about people, too.")
@json_option
def explain(*, given: str, private: bool, as_json: bool) -> None:
    """Say what a case is about and what each remedy would do, down to the calls to Cal.com; nothing is changed.

    ID is the case's number, or the saga's id or its first 8 characters or more.
    """
    case = case_of(given)
    print_explanation(explain_case(engine(), case.number, private=private), private=private, as_json=as_json)


@click.command()
@_ID
@acting
def retry(*, given: str, **options: Any) -> None:
    """Try again, with fresh attempts and looks.

    ID is the case's number, or the saga's id or its first 8 characters or more.
    """
    _settle(given, Remedy.RETRY, **options)


@click.command()
@_ID
@acting
def skip(*, given: str, **options: Any) -> None:
    """Go on without the step that failed.

    ID is the case's number, or the saga's id or its first 8 characters or more.
    """
    _settle(given, Remedy.SKIP, **options)


@click.command()
@_ID
@click.option("--done", "reference", metavar="REFERENCE", help="It stands: its id outside, such as a booking's uid.")
@click.option("--undone", is_flag=True, help="It does not stand (any more).")
@acting
def resolve(*, given: str, reference: str | None, undone: bool, **options: Any) -> None:
    """Say that it was done, or undone, by hand.

    ID is the case's number, or the saga's id or its first 8 characters or more.
    """
    if (reference is not None) == undone:
        raise click.UsageError("say either --done REFERENCE or --undone")
    if undone:
        _settle(given, Remedy.MARK_UNDONE, **options)
    else:
        _settle(given, Remedy.MARK_DONE, reference=reference, **options)


@click.command()
@_ID
@acting
def abandon(*, given: str, **options: Any) -> None:
    """Leave the saga as it is, unsolved, for good.

    ID is the case's number, or the saga's id or its first 8 characters or more.
    """
    _settle(given, Remedy.ABANDON, **options)


def _settle(
    given: str,
    remedy: Remedy,
    *,
    who: str | None,
    why: str | None,
    dry_run: bool,
    private: bool,
    as_json: bool,
    reference: str | None = None,
) -> None:
    signed = {} if dry_run else signature(who, why)
    number = case_of(given).number
    with refused_as_typed(number, remedy):
        if dry_run:
            said = explain_case(engine(), number, only=remedy, reference=reference, private=private)
            print_explanation(said, private=private, as_json=as_json)
            return
        more = {} if reference is None else {"reference": reference}
        settled = getattr(engine().review, remedy)(number, **more, **signed)
    document = {
        "case": settled.case,
        "saga": settled.saga_id,
        "remedy": settled.remedy,
        "state": settled.state,
        "who": settled.who,
    }
    now = "abandoned" if remedy is Remedy.ABANDON else settled.state
    line = f"case {settled.case} settled by {settled.who}: {typed(remedy)}; saga {settled.saga_id} is {now}"
    print_done(document, line, as_json=as_json)
