"""A saga's definition drawn: its steps in order, the pivot, and the way back. Pure functions of what is declared."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise

from sagajobs.saga.declaration import Step
from sagajobs.saga.shape import Definition


@dataclass(frozen=True, slots=True)
class Node:
    """A step.

    Attributes:
        name: as declared.
        marks: what it is, in a word or two each.
        undo: name of its undo, None if it has none; `undo_marks` as `marks`.
        optional: it may fail, and the saga goes on.
        pivot: past it the saga only goes forward.
    """

    name: str
    marks: tuple[str, ...]
    undo: str | None
    undo_marks: tuple[str, ...]
    optional: bool
    pivot: bool


@dataclass(frozen=True, slots=True)
class Diagram:
    """A saga: its stages in order, each with the steps that run side by side."""

    name: str
    version: int
    stages: tuple[tuple[Node, ...], ...]

    @property
    def way_back(self) -> tuple[tuple[Node, ...], ...]:
        """The steps with an undo, by stage, in the order in which they are undone."""
        undoable = (tuple(node for node in stage if node.undo) for stage in reversed(self.stages))
        return tuple(stage for stage in undoable if stage)


def diagram(definition: Definition) -> Diagram:
    """Return what is drawn of a saga."""
    stages = groupby(definition.steps, key=lambda step: step.stage)
    return Diagram(definition.name, definition.version, tuple(tuple(map(_node, steps)) for _, steps in stages))


def _node(step: Step) -> Node:
    marks = {
        "external" if step.external else "local": True,
        "once for each item, side by side": step.each is not None,
        "optional": step.optional,
        "conditional": step.when is not None,
        "pivot": step.pivot,
        "may stand already": step.adopt is not None,
        f"probe {step.finder.look.__name__}" if step.finder else "": step.finder is not None,
        "degrades": step.degraded is not None,
    }
    undo = step.undo
    return Node(
        name=step.name,
        marks=tuple(mark for mark, true in marks.items() if true),
        undo=None if undo is None else undo.method.__name__,
        undo_marks=("conditional",) if undo is not None and undo.when is not None else (),
        optional=step.optional,
        pivot=step.pivot,
    )


# --- as Mermaid ---


def mermaid(drawn: Diagram) -> str:
    """Return the text of a Mermaid flowchart."""
    return "\n".join(["flowchart TD", *(f"    {line}" for line in _mermaid(drawn))]) + "\n"


def _mermaid(drawn: Diagram) -> Iterator[str]:
    yield f'begin(["{drawn.name}"])'
    for number, stage in enumerate(drawn.stages):
        if len(stage) > 1:
            yield f'subgraph stage_{number}["side by side"]'
        for node in stage:
            left, right = ("{{", "}}") if node.pivot else ("(", ")") if node.optional else ("[", "]")
            yield f'step_{node.name}{left}"{_label(node.name, node.marks)}"{right}'
        if len(stage) > 1:
            yield "end"
    yield 'done(["completed"])'
    stops = [("begin",), *(tuple(f"step_{node.name}" for node in stage) for stage in drawn.stages), ("done",)]
    for before, after in pairwise(stops):
        yield f"{' & '.join(before)} --> {' & '.join(after)}"
    yield from _mermaid_back(drawn)


def _mermaid_back(drawn: Diagram) -> Iterator[str]:
    way = drawn.way_back
    if not way:
        return
    for node in (node for stage in way for node in stage):
        yield f'undo_{node.name}["{_label(node.undo or "", node.undo_marks)}"]'
        yield f"step_{node.name} -. undo .-> undo_{node.name}"
    yield 'undone(["compensated"])'
    stops = [*(tuple(f"undo_{node.name}" for node in stage) for stage in way), ("undone",)]
    for before, after in pairwise(stops):
        yield f"{' & '.join(before)} -.-> {' & '.join(after)}"
    undos = ",".join(f"undo_{node.name}" for stage in way for node in stage)
    yield f"style {undos} stroke-dasharray: 4"


def _label(name: str, marks: Sequence[str]) -> str:
    return f"<b>{name}</b>" + (f"<br/>{', '.join(marks)}" if marks else "")


# --- as SVG ---

_WIDE, _HIGH = 270, 66
"""Pixels of a box."""

_ACROSS, _DOWN = 30, 34
"""Pixels between two boxes beside and below each other."""

_MARGIN = 20

_LINE = 42
"""Characters of a line within a box."""

_NAME = 30
"""Characters of a name that certainly find a place in a box; a longer one, of 60 at most, is drawn closer."""

_STYLE = """
    text { font: 12px sans-serif; text-anchor: middle; fill: #222 }
    .name { font-weight: bold; font-size: 13px }
    rect { fill: #eef4fb; stroke: #3b6ea5; stroke-width: 1.5 }
    .optional { fill: #f6f6f6; stroke: #888 }
    .pivot { fill: #fdf3d8; stroke: #b8860b; stroke-width: 3 }
    .undo { fill: #fbeeee; stroke: #a53b3b; stroke-dasharray: 5 3 }
    .end { fill: #fff; stroke: #222 }
    path { fill: none; stroke: #3b6ea5; stroke-width: 1.5; marker-end: url(#on) }
    .back { stroke: #a53b3b; stroke-dasharray: 5 3; marker-end: url(#back) }
"""


@dataclass(frozen=True, slots=True)
class _Box:
    """A box, by its left upper corner."""

    left: float
    top: float
    kind: str
    name: str
    marks: Sequence[str] = ()

    @property
    def middle(self) -> float:
        return self.left + _WIDE / 2

    @property
    def bottom(self) -> float:
        return self.top + _HIGH

    def drawn(self) -> str:
        round_at = {"end": _HIGH / 2, "optional": 16}.get(self.kind, 4)
        said = textwrap.wrap(", ".join(self.marks), _LINE)
        first = self.top + _HIGH / 2 + 4 - 8 * len(said)
        shape = f'x="{self.left:g}" y="{self.top:g}" width="{_WIDE}" height="{_HIGH}" rx="{round_at:g}"'
        name = 'class="name" '
        if len(self.name) > _NAME:
            name += f'textLength="{_WIDE - 16}" lengthAdjust="spacingAndGlyphs" '
        lines = [f'<rect class="{self.kind}" {shape}/>', self._text(self.name, first, name)]
        return "\n".join(lines + [self._text(line, first + 17 + 15 * number) for number, line in enumerate(said)])

    def _text(self, said: str, at: float, attributes: str = "") -> str:
        return f'<text {attributes}x="{self.middle:g}" y="{at:g}">{escape(said)}</text>'


def svg(drawn: Diagram) -> str:
    """Return an SVG: the steps from top to bottom, their undos beside them, from bottom to top."""
    columns = max(map(len, drawn.stages))
    back_at = _MARGIN + columns * (_WIDE + _ACROSS)
    rows = [
        [_Box(*_corner(number, row), _kind(node), node.name, node.marks) for number, node in enumerate(stage)]
        for row, stage in enumerate(drawn.stages, 1)
    ]
    begin = _Box(*_corner(0, 0), "end", drawn.name, (f"version {drawn.version}",))
    done = _Box(*_corner(0, len(rows) + 1), "end", "completed")
    undos = list(_undo_rows(drawn, back_at))
    lines = [
        *_arrows([[begin], *rows, [done]]),
        *_back_arrows(rows, undos),
        *(box.drawn() for box in (begin, done)),
        *(box.drawn() for row in (*rows, *undos) for box in row),
    ]
    width = max((box.left for row in undos for box in row), default=back_at - _WIDE - _ACROSS) + _WIDE + _MARGIN
    return _page(width, done.bottom + _MARGIN, drawn.name, lines)


def _corner(column: int, row: int) -> tuple[float, float]:
    return _MARGIN + column * (_WIDE + _ACROSS), _MARGIN + row * (_HIGH + _DOWN)


def _kind(node: Node) -> str:
    return "pivot" if node.pivot else "optional" if node.optional else "step"


def _undo_rows(drawn: Diagram, left: float) -> Iterator[list[_Box]]:
    """Yield the boxes of the way back, its end first: each row of undos beside the steps that it undoes."""
    way = drawn.way_back
    if not way:
        return
    yield [_Box(left, _corner(0, 0)[1], "end", "compensated")]
    for row, stage in enumerate(drawn.stages, 1):
        undoable = [node for node in stage if node.undo is not None]
        if undoable:
            yield [
                _Box(left + number * (_WIDE + _ACROSS), _corner(0, row)[1], "undo", node.undo or "", node.undo_marks)
                for number, node in enumerate(undoable)
            ]


def _arrows(rows: Sequence[Sequence[_Box]]) -> Iterator[str]:
    for above, below in pairwise(rows):
        for one in above:
            for other in below:
                yield f'<path d="M{one.middle:g} {one.bottom:g} L{other.middle:g} {other.top - 6:g}"/>'


def _back_arrows(rows: Sequence[Sequence[_Box]], undos: Sequence[Sequence[_Box]]) -> Iterator[str]:
    for above, below in pairwise(undos):
        for one in below:
            for other in above:
                yield f'<path class="back" d="M{one.middle:g} {one.top:g} L{other.middle:g} {other.bottom + 6:g}"/>'
    for row in rows:
        for undo in (boxes[0] for boxes in undos if boxes[0].kind == "undo" and boxes[0].top == row[0].top):
            middle = undo.top + _HIGH / 2
            yield f'<path class="back" d="M{row[-1].left + _WIDE:g} {middle:g} L{undo.left - 6:g} {middle:g}"/>'


def _page(width: float, height: float, title: str, lines: Sequence[str]) -> str:
    marker = (
        '<marker id="{0}" viewBox="0 0 10 10" refX="4" refY="5" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L10 5 L0 10 z" '
        'style="fill: {1}; stroke: none; marker-end: none"/></marker>'
    )
    markers = marker.format("on", "#3b6ea5") + marker.format("back", "#a53b3b")
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f"<defs>{markers}</defs>",
        '<rect width="100%" height="100%" style="fill: #fff; stroke: none"/>',
    ]
    return "\n".join([*head, *lines, "</svg>", ""])
