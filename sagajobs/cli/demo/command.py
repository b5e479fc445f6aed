"""`demo`: the command, and what it reports."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from pathlib import Path

import click

from sagajobs.cli.demo import scenario
from sagajobs.cli.demo.home import fresh_home, move_in, remove_home
from sagajobs.cli.demo.performance import Result, perform
from sagajobs.cli.demo.progress import Teller
from sagajobs.cli.help import called, examples
from sagajobs.cli.options import Number
from sagajobs.cli.output import json_option, print_json, print_table
from sagajobs.cli.stack import only_one
from sagajobs.runtime.processes import Terminated
from sagajobs.runtime.settings import Settings, variable_of
from sagajobs.saga.events import Lifecycle

_TOLD = (Lifecycle.STEP_RETRY, Lifecycle.STEP_UNKNOWN, Lifecycle.STEP_PROBED, Lifecycle.COMPENSATION_COMPLETED)


@click.command(
    epilog=examples("sagajobs demo", "sagajobs demo --bookings 100 --json | tail -n 1", "sagajobs demo --clean")
)
@click.option(
    "--bookings",
    metavar="N",
    type=Number("bookings", 10, 1000),
    default=40,
    show_default=True,
    help="How many appointments to book.",
)
@click.option("--clean", is_flag=True, help="Only remove what an earlier demonstration has left in its home.")
@json_option
def demo(*, bookings: int, clean: bool, as_json: bool) -> None:
    """Book, move and cancel appointments while Cal.com fails and workers are killed, and count what is left of it.

    It has a home of its own, SAGAJOBS_HOME/demo, emptied at the start and kept afterwards, with its own embedded
    servers and Cal.com simulator: servers that are set by URL are not touched. Two workers and beat carry out the
    bookings; some slots are taken, here or at Cal.com, some calls fail before or after they took effect, and a pool
    process and a whole worker are killed at work. Then some appointments are moved or cancelled, and some are booked
    several at once, all or none.

    With --json the last line is one JSON object, and everything else goes to standard error. Exit status 0 if no
    invariant is violated, no booking is an orphan and no saga is lost; else 1.
    """
    home = Settings.load().home
    if clean:
        if home.exists():
            with only_one(home / "demo.lock", "sagajobs demo"):
                remove_home(home / "demo")
        return
    program = called()
    # What the engine warns of is what the demonstration is about; the table says it better.
    for name in ("saga", "sagajobs"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    teller = Teller(scenario.sagas(bookings), to_stderr=as_json)
    began = time.monotonic()
    try:
        with only_one(home / "demo.lock", "sagajobs demo"):
            fresh_home(home / "demo")
            move_in(home / "demo")
            result = perform(bookings, teller)
    except (KeyboardInterrupt, Terminated):
        raise click.ClickException("stopped before its end; everything that it had started is stopped") from None
    seconds = round(time.monotonic() - began, 1)
    _report(result, seconds, teller, err=as_json)
    _say_where_to_look(home / "demo", program, teller)
    if as_json:
        print_json(_document(result, seconds))
    sys.exit(0 if result.tally.in_order else 1)


def _document(result: Result, seconds: float) -> dict[str, object]:
    tally = result.tally
    return {
        "sagas": tally.sagas,
        "outcomes": tally.outcomes,
        "invariant_violations": tally.violated,
        "orphans": tally.orphans,
        "lost": tally.lost,
        "workers_killed": result.killed,
        "seconds": seconds,
    }


def _report(result: Result, seconds: float, teller: Teller, *, err: bool) -> None:
    tally = result.tally
    teller.say("")
    print_table(
        ("saga", "outcome", "because of", "at step", "sagas"),
        [
            (name, state, error.rpartition(".")[2] or "-", step or "-", str(times))
            for (name, state, step, error), times in sorted(tally.reasons.items())
        ],
        err=err,
    )
    teller.say("")
    faults = ", ".join(f"{times} × {what}" for what, times in result.faults.items()) or "none"
    print_table(
        ("counted", "", ""),
        [
            *((f"invariant {one.invariant.number}", str(one.rows), one.invariant.name) for one in tally.violations),
            (
                "orphans",
                str(tally.orphans),
                f"{tally.stray} bookings without appointment, {tally.missing} appointments without booking",
            ),
            ("lost", str(tally.lost), "sagas started and not at rest"),
            ("workers killed", str(result.killed), "at work, with SIGKILL"),
            ("faults of Cal.com", str(sum(result.faults.values())), faults),
            ("slots taken there", str(result.taken), "by somebody else, past us"),
            *((str(event), str(tally.events.get(event, 0)), "times in the history") for event in _TOLD),
            ("seconds", str(seconds), "from start to end"),
        ],
        err=err,
    )
    teller.say("")
    teller.say("Both sides agree." if tally.in_order else "The two sides do NOT agree.")


def _say_where_to_look(home: Path, program: str, teller: Teller) -> None:
    command = f"{variable_of('home')}={shlex.quote(str(home))} {program}"
    teller.say("\nWhere to look next:\n")
    for arguments in ("sagas list --state compensated", "sagas show ID", "invariants"):
        teller.say(f"    {command} {arguments}")
    teller.say(f"\nLogs are in {home / 'logs'}.")
