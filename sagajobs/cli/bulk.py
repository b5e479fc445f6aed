"""One remedy for many cases, as a person sees it: what would be done, how far it is, what came of it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from sagajobs.cli.application import engine, load_kind, ready_database
from sagajobs.cli.exits import Exit
from sagajobs.cli.operator import settled_line, signature, told, typed
from sagajobs.cli.options import tell_of_unknown_kind
from sagajobs.cli.output import echo, print_json, print_table
from sagajobs.cli.progress import bar
from sagajobs.desk.bulk import ForMany, Missed, Outcome, foretell_each, settle_each
from sagajobs.desk.documents import cause_of
from sagajobs.saga.cases import Case, Sieve
from sagajobs.saga.operator import signed as checked
from sagajobs.saga.remedies import Remedy
from sagajobs.saga.review import Settled


def each(
    remedy: ForMany,
    meant: Sieve,
    *,
    limit: int,
    per_second: float,
    yes: bool,
    who: str | None,
    why: str | None,
    dry_run: bool,
    private: bool,
    as_json: bool,
) -> None:
    """Settle the open cases that are meant, or say what would be done; exit status 6 if some were not settled.

    Args:
        remedy: which.
        meant: which cases.
        limit: so many at most, the nearest appointment first.
        per_second: so many are begun in a second.
        yes: do not ask on a terminal.
        who: acts; `why`: his reason.
        why: see there.
        dry_run: only say it.
        private: makes no sense here, as no call is shown.
        as_json: one document instead.
    """
    if private:
        raise click.UsageError("--private goes with one case: of many, no call is shown (see `explain ID`)")
    by = {} if dry_run else signature(who, why)
    if by:
        checked(**by)  # before the first case, and before anybody is asked
    ready_database()
    found = engine().review.cases(limit + 1, meant)
    cases, more = found[:limit], len(found) > limit
    if not cases:
        tell_of_unknown_kind(meant.name)
    for name in {case.name for case in cases}:
        load_kind(name)
    if dry_run:
        _foretell(remedy, cases, more=more, as_json=as_json)
    elif as_json or not cases or yes or not sys.stdin.isatty() or _confirmed(remedy, cases):
        _settle(remedy, cases, by, per_second, more=more, as_json=as_json)
    else:
        echo("nothing was done")


def _confirmed(remedy: Remedy, cases: Sequence[Case]) -> bool:
    kinds = ", ".join(sorted({case.name for case in cases}))
    return click.confirm(f"{typed(remedy)}: {_counted(len(cases))} of {kinds}, one after the other?")


def _settle(
    remedy: ForMany, cases: Sequence[Case], by: dict[str, str], per_second: float, *, more: bool, as_json: bool
) -> None:
    outcomes: list[Outcome] = []
    with _until_interrupted() as stop, bar(len(cases), typed(remedy)) as shown:
        for outcome in settle_each(engine(), cases, remedy, **by, per_second=per_second, stop=stop):
            outcomes.append(outcome)
            if not as_json:
                shown.echo(_line(outcome, remedy))
            shown.done(1)
    settled = [outcome.came_to for outcome in outcomes if isinstance(outcome.came_to, Settled)]
    missed = len(outcomes) - len(settled)
    left = len(cases) - len(outcomes)
    if as_json:
        print_json(
            {
                "remedy": remedy,
                "settled": [{"case": one.case, "saga": one.saga_id, "state": one.state} for one in settled],
                "missed": [
                    _missed(one.case, one.came_to, remedy) for one in outcomes if not isinstance(one.came_to, Settled)
                ],
                "left": left,
                "more": more,
            }
        )
    else:
        echo(_summary(len(settled), missed, left, more=more))
    if missed or left:
        sys.exit(Exit.LEFT)


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """Have Ctrl-C end the work between two cases, and not in the middle of one, of which nobody would be told."""
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda _number, _frame: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _line(outcome: Outcome, remedy: Remedy) -> str:
    if isinstance(outcome.came_to, Settled):
        return settled_line(outcome.came_to)
    return f"not settled: {told(outcome.came_to, outcome.case.number, remedy)}"


def _missed(case: Case, error: Missed, remedy: Remedy) -> dict[str, Any]:
    return {"case": case.number, "saga": case.saga_id, "why": told(error, case.number, remedy)}


def _summary(settled: int, missed: int, left: int, *, more: bool) -> str:
    parts = [f"{_counted(settled)} settled"]
    if missed:
        parts.append(f"{missed} not")
    if left:
        parts.append(f"interrupted with {left} left")
    line = ", ".join(parts)
    return f"{line}; there are more than --limit, so do it again" if more else line


def _foretell(remedy: ForMany, cases: Sequence[Case], *, more: bool, as_json: bool) -> None:
    found = list(foretell_each(engine(), cases, remedy))
    would = [(one.case, one.would) for one in found if isinstance(one.would, tuple)]
    missed = [(one.case, one.would) for one in found if not isinstance(one.would, tuple)]
    if as_json:
        print_json(
            {
                "remedy": remedy,
                "would": [
                    {"case": case.number, "saga": case.saga_id, "changes": list(changes)} for case, changes in would
                ],
                "missed": [_missed(case, error, remedy) for case, error in missed],
                "more": more,
            }
        )
        return
    rows = [(case, "; ".join(changes)) for case, changes in would]
    rows += [(case, f"not: {told(error, case.number, remedy)}") for case, error in missed]
    if rows:
        print_table(
            ("case", "saga", "kind", "step", "cause", "would"),
            [(str(one.number), one.saga_id, one.name, one.step or "-", cause_of(one), says) for one, says in rows],
        )
    last = "; there are more than --limit" if more else ""
    echo(f"{_counted(len(would))} would be settled by {typed(remedy)}, {len(missed)} not{last}")
    if would:  # for a person: what reads the list is not to meet it
        click.echo("the calls that one would lead to: sagajobs explain CASE", err=True)


def _counted(cases: int) -> str:
    return f"{cases} case{'' if cases == 1 else 's'}"
