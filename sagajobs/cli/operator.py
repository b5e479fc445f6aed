"""What the commands that act on a saga share: who acts and why, which saga or case is meant, what is shown of it."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from sagajobs.cli.application import engine, load_kind, ready_database
from sagajobs.cli.groups import first_line
from sagajobs.cli.output import echo, json_option, print_json
from sagajobs.desk import queries
from sagajobs.desk.documents import case_error, explanation_document, prospect_document
from sagajobs.desk.wording import cause, pairs
from sagajobs.errors import RemedyRefused, SagajobsError
from sagajobs.saga.cases import Case, check_open
from sagajobs.saga.explain import Explanation, Prospect
from sagajobs.saga.rehearsal import Foreseen
from sagajobs.saga.remedies import Remedy, refusal
from sagajobs.saga.review import Settled

LONGEST_NUMBER = 7
"""Digits of a case's number: from eight characters on it is the beginning of a saga's id."""

_TYPED = {
    Remedy.MARK_DONE: "resolve --done REFERENCE",
    Remedy.MARK_UNDONE: "resolve --undone",
}
"""Remedies that are typed otherwise than they are called in the history and in JSON."""

_UNHEARD = logging.NullHandler()

Command = TypeVar("Command", bound=Callable[..., Any])


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return None


who_option = click.option(
    "--who", metavar="NAME", default=_user, help="Who you are; by default the user of this session."
)
"""The option that says who acts."""

why_unless_dry_run_option = click.option(
    "--why", metavar="REASON", help="Your reason; it goes on record.  [required unless --dry-run]"
)
"""The option that says why, of an act that can be looked at first."""


def acting(command: Command) -> Command:
    """Give a command the options of every act of an operator on one case or saga."""
    return _acting(command, private="With --dry-run: show what calls would say about people, too.")


def acting_on_many(command: Command) -> Command:
    """Give a command the options of every act of an operator on one case, or many."""
    one = "With ID and --dry-run: show what calls would say about people, too; of many cases no call is shown."
    return _acting(command, private=one)


def _acting(command: Command, *, private: str) -> Command:
    for option in (
        json_option,
        click.option("--private", is_flag=True, help=private),
        click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing, here or at Cal.com."),
        why_unless_dry_run_option,
        who_option,
    ):
        command = option(command)
    return command


def signature(who: str | None, why: str | None) -> dict[str, str]:
    """Return who and why; raises `click.UsageError` if one is missing.

    What is signed is done next, and told by the command itself: the engine's log lines of it stay off the terminal.
    """
    if not who:
        raise click.UsageError("say who you are with --who: it is empty, or this session's user has no name")
    if why is None:
        raise click.UsageError("give your reason with --why (or see what would be done with --dry-run)")
    logging.getLogger("saga").addHandler(_UNHEARD)  # with no handler at all, Python prints warnings on stderr
    return {"who": who, "why": why}


def saga_of(given: str) -> str:
    """Return the id of the saga that an id, or its beginning, names; its kind is known then, if the workers know it."""
    with ready_database().reading() as connection:
        full = queries.full_id(connection, given)
        name = queries.saga(connection, full)["name"]
    load_kind(name)
    return full


def case_of(given: str) -> Case:
    """Return the open case that a number names or, by a saga's id or its beginning, that saga's; see `saga_of`.

    Raises:
        CaseNotFound: there is none.
        CaseClosed: somebody has settled it.
    """
    if given.isdecimal() and len(given) <= LONGEST_NUMBER:
        ready_database()
        found = engine().review.case(int(given))
        load_kind(found.name)
    else:
        found = engine().review.of(saga_of(given))
    check_open(found)
    return found


def typed(act: str) -> str:
    """Return what is typed for a remedy, or for an act on a saga."""
    return _TYPED.get(Remedy(act), act) if act in list(Remedy) else act


@contextmanager
def refused_as_typed(number: int, remedy: Remedy) -> Iterator[None]:
    """Have a refusal within the block name remedies as they are typed.

    Args:
        number: of the case.
        remedy: which one was asked for.
    """
    try:
        yield
    except RemedyRefused as error:
        if not error.takes:
            raise
        raise RemedyRefused(told(error, number, remedy)) from error


def told(error: SagajobsError, number: int, remedy: Remedy) -> str:
    """Return in one line what an error about a case says; a refusal names remedies as they are typed."""
    if isinstance(error, RemedyRefused) and error.takes:
        return refusal(number, typed(remedy), error.why, [typed(other) for other in error.takes])
    return first_line(str(error))


def settle(number: int, remedy: Remedy, signed: Mapping[str, str], reference: str | None = None) -> Settled:
    """Have a remedy done; refused, it names remedies as they are typed."""
    more = {} if reference is None else {"reference": reference}
    with refused_as_typed(number, remedy):
        settled: Settled = getattr(engine().review, remedy)(number, **more, **signed)
        return settled


def settled_line(settled: Settled) -> str:
    """Say what a remedy came to."""
    now = "abandoned" if settled.remedy is Remedy.ABANDON else settled.state
    by = f"case {settled.case} settled by {settled.who}: {typed(settled.remedy)}"
    return f"{by}; saga {settled.saga_id} is {now}"


def print_done(document: Mapping[str, Any], line: str, *, as_json: bool) -> None:
    """Say what was done."""
    if as_json:
        print_json(document)
    else:
        echo(line)


def print_prospect(prospect: Prospect, *, as_json: bool) -> None:
    """Say what one act would do."""
    if as_json:
        print_json(prospect_document(prospect))
    else:
        _echo(prospect)


def print_explanation(explanation: Explanation, *, private: bool, as_json: bool) -> None:
    """Say what a case is about and what each remedy would do."""
    case = explanation.case
    if as_json:
        print_json(explanation_document(explanation, private=private))
        return
    facts = {
        "case": str(case.number),
        "saga": f"{case.saga_id}, {case.name} (history: sagajobs sagas show {case.saga_id})",
        "reason": case.reason,
        "step": case.step or "-",
        "cause": _cause(case, private=private),
        "was": case.was,
    }
    if private:
        facts["evidence"] = pairs(case.evidence)
    width = max(map(len, facts))
    for name, value in facts.items():
        echo(f"{name.ljust(width)}  {value}")
    for prospect in explanation.prospects:
        echo()
        _echo(prospect)


def _cause(case: Case, *, private: bool) -> str:
    error = case_error(case)
    if not error:
        return "-"
    if private:
        return cause(error)
    return cause({"class": error.get("class")}) + (" (its message: --private)" if error.get("message") else "")


def _echo(prospect: Prospect) -> None:
    if prospect.refused is not None:
        echo(f"{typed(prospect.act)}: not here, {prospect.refused}")
        return
    echo(f"{typed(prospect.act)}:")
    for change in prospect.changes:
        echo(f"  {change}")
    for act in prospect.follows:
        echo(f"  then {_foreseen(act)}")
        for call in act.calls:
            echo(f"    {call['method']} {call['path']}  {pairs(call['body'])}")


def _foreseen(act: Foreseen) -> str:
    kind = "external" if act.external else "local"
    return f"{act.act} {act.step}, {kind}: {act.says}"
