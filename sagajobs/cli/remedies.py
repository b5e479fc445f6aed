"""`sagas retry`, `skip`, `resolve` and `abandon`: how a person settles one case, or many that are alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from sagajobs.cli import bulk, completing
from sagajobs.cli.application import engine
from sagajobs.cli.help import examples
from sagajobs.cli.operator import (
    acting,
    acting_on_many,
    case_of,
    print_done,
    print_explanation,
    refused_as_typed,
    settle,
    settled_line,
    signature,
)
from sagajobs.cli.options import limit_option, rate_option, sieve, sieve_options
from sagajobs.desk.bulk import ForMany
from sagajobs.saga.cases import ALL
from sagajobs.saga.explain import explain as explain_case
from sagajobs.saga.remedies import Remedy

Command = TypeVar("Command", bound=Callable[..., Any])


def _examples(act: str, cause: str, why: str) -> str:
    return examples(
        f"sagajobs sagas {act} 17 --dry-run",
        f'sagajobs sagas {act} 17 --why "{why}"',
        f"sagajobs sagas {act} --cause {cause} --dry-run",
        f'sagajobs sagas {act} --cause {cause} --older-than 10min --why "{why}"',
    )


def _one_or_many(command: Command) -> Command:
    """Give a remedy's command its arguments: one case, or what many have in common."""
    for option in (
        acting_on_many,
        click.option("--yes", is_flag=True, help="Of many cases: do not ask on a terminal before it begins."),
        rate_option,
        limit_option("cases", 100, "Of many cases, settle so many at most, the nearest appointment first."),
        sieve_options,
        click.argument("given", metavar="[ID]", required=False, shell_complete=completing.cases),
    ):
        command = option(command)
    return command


@click.command(epilog=_examples("retry", "ConnectTimeout", "Cal.com is back"))
@_one_or_many
def retry(**options: Any) -> None:
    """Try again, with fresh attempts and looks.

    ID is the case's number, or the saga's id or its first 8 characters or more. Without it all open cases are tried
    again that the options --cause, --name, --step and --older-than let through, each as if it had been named, with a
    line of history of its own; what somebody else settles meanwhile is passed over. Ctrl-C ends it after the case in
    hand; typed again, it goes on with what is left.
    """
    _one_or_each(Remedy.RETRY, **options)


@click.command(epilog=_examples("skip", "SMTPException", "mails are sent by hand today"))
@_one_or_many
def skip(**options: Any) -> None:
    """Go on without the step that failed.

    ID is the case's number, or the saga's id or its first 8 characters or more. Without it the options choose open
    cases, as for `retry`.
    """
    _one_or_each(Remedy.SKIP, **options)


@click.command(epilog=_examples("abandon", "DefinitionError", "the old kind is given up"))
@_one_or_many
def abandon(**options: Any) -> None:
    """Leave the saga as it is, unsolved, for good.

    ID is the case's number, or the saga's id or its first 8 characters or more. Without it the options choose open
    cases, as for `retry`.
    """
    _one_or_each(Remedy.ABANDON, **options)


@click.command(
    epilog=examples(
        'sagajobs sagas resolve 17 --done uid_of_the_booking --why "booked it by hand"',
        'sagajobs sagas resolve 17 --undone --why "cancelled it at Cal.com" --dry-run',
    )
)
@click.argument("given", metavar="ID", shell_complete=completing.cases)
@click.option("--done", "reference", metavar="REFERENCE", help="It stands: its id outside, such as a booking's uid.")
@click.option("--undone", is_flag=True, help="It does not stand (any more).")
@acting
def resolve(*, given: str, reference: str | None, undone: bool, **options: Any) -> None:
    """Say that it was done, or undone, by hand.

    ID is the case's number, or the saga's id or its first 8 characters or more. There is no such command for many
    cases: it says what stands outside, which is another thing for each.
    """
    if (reference is not None) == undone:
        raise click.UsageError("say either --done REFERENCE or --undone")
    if undone:
        _one(given, Remedy.MARK_UNDONE, **options)
    else:
        _one(given, Remedy.MARK_DONE, reference=reference, **options)


def _one_or_each(
    remedy: ForMany,
    *,
    given: str | None,
    cause: str | None,
    name: str | None,
    step: str | None,
    older_than: float,
    limit: int,
    rate: float,
    yes: bool,
    **options: Any,
) -> None:
    meant = sieve(cause=cause, name=name, step=step, older_than=older_than)
    if given is not None and meant != ALL:
        raise click.UsageError("say either ID, for one case, or --cause, --name, --step, --older-than for many")
    if given is not None:
        _one(given, remedy, **options)
    elif meant == ALL:
        raise click.UsageError("say which case: its ID, or of many --cause, --name, --step or --older-than")
    else:
        bulk.each(remedy, meant, limit=limit, per_second=rate, yes=yes, **options)


def _one(
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
    if dry_run:
        with refused_as_typed(number, remedy):
            said = explain_case(engine(), number, only=remedy, reference=reference, private=private)
        print_explanation(said, private=private, as_json=as_json)
        return
    settled = settle(number, remedy, signed, reference)
    document = {
        "case": settled.case,
        "saga": settled.saga_id,
        "remedy": settled.remedy,
        "state": settled.state,
        "who": settled.who,
    }
    print_done(document, settled_line(settled), as_json=as_json)
