"""The picture of one saga that `watch` draws: how it stands, its steps, and below them what happened last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from sagajobs.cli.layout import cut_off
from sagajobs.cli.output import drawn, harmless
from sagajobs.cli.timeline import STEP_HEADINGS, header, step_rows
from sagajobs.desk.watching import Event
from sagajobs.desk.wording import moment
from sagajobs.saga.states import StepState

LAST_EVENTS = 10
"""Events that are shown, at most."""

_CURSOR = 1
"""Lines of a terminal that stay empty: the cursor's."""

_NAMED = 3
"""Lines that say which saga it is and how it stands."""

_LEAST_TABLE = 3
"""Lines below which a table says nothing."""

_ENDLESS = 10_000
"""Lines of a terminal on which every table has room."""


def picture_of_one(document: Mapping[str, Any], last: Sequence[Event], console: Console) -> RenderableType:
    """Return a picture of a saga that is no higher than the terminal.

    Where there is no room for all of it, the newest events are there, and what they are of: the oldest events go first,
    then what is said of the saga beyond its state, then steps that are done with.

    Args:
        document: the saga's.
        last: what happened last, the newest at the end.
        console: the terminal.
    """
    room = max(console.height - _CURSOR, 1)
    head = [harmless(line) for line in header(document)]
    events = [harmless(f"{moment(event.at)}  {event.event}  {event.step or ''}".rstrip()) for event in last]
    steps = document["steps"]
    whole = Group(Text("\n".join(head)), _table(steps, console, room), Text("\n".join(events), "dim"))
    if _height(whole, console) <= room:
        return whole
    high = _height(_table(steps, console, room), console)
    newest = min(len(events), max(room - len(head) - high, room // 3, 1))
    said = min(len(head), max(room - newest - high, _NAMED), room - newest)
    left = room - newest - said
    parts: list[RenderableType] = [cut_off("\n".join(head[:said]))] if said else []
    if left >= _LEAST_TABLE:
        parts.append(_table(_not_done_with(steps, console, left), console, left))
    else:
        newest = min(len(events), newest + left)
    return Group(*parts, cut_off("\n".join(events[-newest:]), "dim"))


def _not_done_with(steps: Sequence[Mapping[str, Any]], console: Console, room: int) -> Sequence[Mapping[str, Any]]:
    """Return as many steps as there is room for, without the first ones that are done if that is too many."""
    while len(steps) > 1 and steps[0]["state"] == StepState.DONE:
        if _height(_table(steps, console, _ENDLESS), console) <= room:
            break
        steps = steps[1:]
    return steps


def _table(steps: Sequence[Mapping[str, Any]], console: Console, room: int) -> RenderableType:
    return drawn(STEP_HEADINGS, step_rows(steps), width=console.width, height=room)


def _height(what: RenderableType, console: Console) -> int:
    return len(console.render_lines(what, pad=False))
