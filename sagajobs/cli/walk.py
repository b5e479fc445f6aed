"""`sagas review` on a terminal: one case after the other, each settled by whom it is shown to, or left for later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import click

from sagajobs.cli.application import engine, load_kind
from sagajobs.cli.operator import print_explanation, settle, settled_line, told, typed
from sagajobs.cli.output import echo
from sagajobs.desk.wording import coming, moment, span
from sagajobs.errors import CaseClosed, CaseNotFound, SagajobsError
from sagajobs.saga.cases import Case
from sagajobs.saga.explain import Explanation
from sagajobs.saga.explain import explain as explain_case
from sagajobs.saga.remedies import Remedy

_REMEDIES = {
    "retry": Remedy.RETRY,
    "skip": Remedy.SKIP,
    "done": Remedy.MARK_DONE,
    "undone": Remedy.MARK_UNDONE,
    "abandon": Remedy.ABANDON,
}
"""What is typed here for each remedy; its first letter is enough."""

_NEXT, _BACK, _PRIVATE, _QUIT = "next", "back", "private", "quit"


class _Go(IntEnum):
    """To which case, from the one that is shown."""

    ON = 1
    BACK = -1


class _Quit(Exception):
    """The person has had enough."""


def through(cases: Sequence[Case], *, who: str | None) -> None:
    """Walk through open cases; nothing is done that has not been confirmed.

    Args:
        cases: in the order in which they are shown.
        who: acts, unless he says otherwise.
    """
    echo(f"{len(cases)} wait for a person, the nearest appointment first. The first letter of a word is enough.")
    place, go = 0, _Go.ON
    try:
        while place < len(cases):
            go, who = _one(cases[place], f"{place + 1} of {len(cases)}", go if place else _Go.ON, who)
            place = max(place + go, 0)
    except (_Quit, click.Abort):  # Ctrl-C and Ctrl-D, too
        echo()
        echo("the others are left as they are")
        return
    echo("these were all")


def _one(case: Case, place: str, go: _Go, who: str | None) -> tuple[_Go, str | None]:
    """Show a case until it is settled or left; return where to go on, and who acts."""
    load_kind(case.name)
    private = False
    while True:
        try:
            explanation = explain_case(engine(), case.number, private=private)
        except (CaseClosed, CaseNotFound) as error:  # settled meanwhile, by somebody else or here before
            echo(f"passed over: {error}")
            return go, who
        _show(explanation, place, private=private)
        chosen = _choose(explanation)
        if chosen == _QUIT:
            raise _Quit
        if chosen in (_NEXT, _BACK):
            return (_Go.ON if chosen == _NEXT else _Go.BACK), who
        if chosen == _PRIVATE:
            private = True
            continue
        signed = _settled(case, _REMEDIES[chosen], who, private=private)
        if signed is not None:
            return _Go.ON, signed


def _show(explanation: Explanation, place: str, *, private: bool) -> None:
    case = explanation.case
    echo()
    needed = "" if case.urgent_at is None else f", needed {coming(case.urgent_in)}, at {moment(case.urgent_at)}"
    click.secho(f"--- {place}: waits for {span(case.age)}{needed}", bold=True)
    print_explanation(explanation, private=private, as_json=False)
    echo()


def _choose(explanation: Explanation) -> str:
    taken = {prospect.act for prospect in explanation.prospects if prospect.refused is None}
    words = [word for word, remedy in _REMEDIES.items() if remedy in taken] + [_NEXT, _BACK, _PRIVATE, _QUIT]

    def read(answer: str) -> str:
        found = [word for word in words if answer.strip() and word.startswith(answer.strip().lower())]
        if len(found) != 1:
            raise click.UsageError(f"choose one of {', '.join(words)}")
        return found[0]

    chosen: str = click.prompt(", ".join(words), default=_NEXT, value_proc=read)
    return chosen


def _settled(case: Case, remedy: Remedy, who: str | None, *, private: bool) -> str | None:
    """Have a remedy done, if it is confirmed; return who has settled the case, None if nobody has."""
    reference = None
    if remedy is Remedy.MARK_DONE:
        reference = click.prompt("Its reference outside, such as a booking's uid")
    try:
        if reference is not None:  # what it leads to was not known yet
            said = explain_case(engine(), case.number, only=remedy, reference=reference, private=private)
            print_explanation(said, private=private, as_json=False)
        signed = _signature(who)
        if not click.confirm(f"{typed(remedy)}, case {case.number}: do it?"):
            echo("nothing was done")
            return None
        echo(settled_line(settle(case.number, remedy, signed, reference)))
    except (CaseClosed, CaseNotFound):
        return None  # which the next look at it tells
    except SagajobsError as error:
        echo(f"nothing was done: {told(error, case.number, remedy)}")
        return None
    return signed["who"]


def _signature(who: str | None) -> Mapping[str, str]:
    return {"who": click.prompt("Who you are", default=who), "why": click.prompt("Your reason, for the record")}
