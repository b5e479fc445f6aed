"""`sagas watch`: what happens, while it happens."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live

from sagajobs.cli import completing
from sagajobs.cli.application import engine, ready_database
from sagajobs.cli.exits import Exit
from sagajobs.cli.help import examples
from sagajobs.cli.layout import cut_off
from sagajobs.cli.listing import HEADINGS, list_rows, list_styles
from sagajobs.cli.operator import saga_of
from sagajobs.cli.output import drawn, echo, print_json
from sagajobs.cli.picture import LAST_EVENTS, picture_of_one
from sagajobs.desk import queries
from sagajobs.desk.documents import saga_document
from sagajobs.desk.watching import AllEvents, Event, EventsOfOne
from sagajobs.desk.wording import moment
from sagajobs.saga import Database
from sagajobs.saga.states import UNFINISHED, SagaState

_BELOW = 2
"""Lines of a terminal that no table may take: the one below it, and the cursor's."""

_STATUS = {SagaState.COMPLETED: Exit.DONE, SagaState.COMPENSATED: Exit.UNDONE}
"""Exit status by how the saga has come to rest; any other one is a person's."""


def _number(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which is in every range, as it is not outside
        raise click.BadParameter("'nan' is no number of seconds")
    return value


@click.command(
    epilog=examples(
        "sagajobs sagas watch",
        "sagajobs sagas watch 1f6c2a9e && echo booked",
        "sagajobs sagas watch --json | jq 'select(.event == \"review_required\")'",
    )
)
@click.argument("given", metavar="[ID]", required=False, shell_complete=completing.saga_ids)
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    callback=_number,
    help="Seconds between two looks; each is one short query.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each change instead.")
def watch(*, given: str | None, interval: float, as_json: bool) -> None:
    """Show what happens to sagas, while it happens.

    It ends with Ctrl-C or, of one saga, when that is at rest. On a terminal the picture is drawn anew at every look:
    the sagas at work, the newest first, or the steps of one; where there is no room for all, lines are cut, and what
    happened last is there. In a pipe, and with --json, every change is a line: all that happens from now on, or the
    history of one from its beginning. ID is the saga's id, or its first 8 characters or more; the exit status then is
    0 if it was completed, 4 if it was undone, 5 if a person must see to it.
    """
    saga_id = None if given is None else saga_of(given)
    database = ready_database()
    console = Console()
    drawing = console.is_terminal and not console.is_dumb_terminal and not as_json
    state = None
    with suppress(KeyboardInterrupt):
        if saga_id is None and drawing:
            _draw_all(database, console, interval)
        elif saga_id is None:
            _tell_all(database, interval, as_json=as_json)
        elif drawing:
            state = _draw_one(database, console, saga_id, interval)
        else:
            state = _tell_one(database, saga_id, interval, as_json=as_json)
    if state is not None:
        sys.exit(_STATUS.get(state, Exit.ASKED))


# --- a line for each change ---


def _tell_all(database: Database, interval: float, *, as_json: bool) -> None:
    with database.reading() as connection:
        events = AllEvents(connection)
    while True:
        with database.reading() as connection:
            happened = events.look(connection)
        for event in happened:
            _tell(event, as_json=as_json)
        time.sleep(interval)


def _tell_one(database: Database, saga_id: str, interval: float, *, as_json: bool) -> SagaState:
    def show(happened: list[Event]) -> None:
        for event in happened:
            _tell(event, as_json=as_json)

    return _follow(database, saga_id, interval, show)


def _follow(database: Database, saga_id: str, interval: float, show: Callable[[list[Event]], None]) -> SagaState:
    """Show what happens to one saga until it is at rest; return its state then."""
    events, state = EventsOfOne(saga_id), SagaState.PENDING
    while True:
        with database.reading() as connection:
            happened = events.look(connection)
        show(happened)
        # Each event brings the saga's state: of one to which nothing has happened it is the same as before.
        state = happened[-1].state if happened else state
        if state not in UNFINISHED:
            return state
        time.sleep(interval)


def _tell(event: Event, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(event))
    else:
        attempt = "-" if event.attempt is None else str(event.attempt)
        echo("  ".join((moment(event.at), event.saga, event.name, event.event, event.step or "-", attempt)))


# --- a picture ---


def _draw_all(database: Database, console: Console, interval: float) -> None:
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            room = max(console.height - _BELOW, 1)
            with database.reading() as connection:
                found = queries.at_work(connection, limit=room)
            table = drawn(HEADINGS, list_rows(found), styles=list_styles(found), width=console.width, height=room)
            below = f"Ctrl-C ends this; at work, or at rest for less than {queries.AFTERGLOW:g} s"
            live.update(Group(table, cut_off(below, "dim")), refresh=True)
            time.sleep(interval)


def _draw_one(database: Database, console: Console, saga_id: str, interval: float) -> SagaState:
    draw = _painter(database, console, saga_id)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        return _follow(database, saga_id, interval, lambda happened: live.update(draw(happened), refresh=True))


def _painter(database: Database, console: Console, saga_id: str) -> Callable[[list[Event]], RenderableType]:
    """Return what draws one saga; it is read again when something has happened, and between that only time goes on."""
    document: dict[str, Any] = {}
    read_at, last = 0.0, list[Event]()

    def draw(happened: list[Event]) -> RenderableType:
        nonlocal document, read_at
        if happened or not document:
            with database.reading() as connection:
                document, read_at = saga_document(connection, engine(), saga_id, private=False), time.monotonic()
        last.extend(happened)
        del last[:-LAST_EVENTS]
        return picture_of_one(_later(document, time.monotonic() - read_at), last, console)

    return draw


def _later(document: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return what a saga to which nothing has happened would be read as so much later."""
    steps = [
        {**step, **{key: step[key] - seconds for key in ("due_in", "leased_for") if step[key] is not None}}
        for step in document["steps"]
    ]
    return {**document, "steps": steps}
