"""How a table is laid out: plain columns for a pipe; for a terminal ids shortened, cells wrapped, nothing cut."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from sagajobs.desk.queries import PREFIX_LENGTH

_GAP = 2
"""Between two columns."""

_RULE = 1
"""Lines of a table that are neither headings nor rows."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_OF_SAGAS = ("id", "saga", "example")
"""Headings of columns in which a saga's id may stand."""

_PIECES = re.compile(r"\s+|[+-]?\d+(?:\.\d+)? (?:s|min|h|d)\b|[A-Z]+(?:_[A-Z]+)+|[^\s_/=,;]*[_/=,;]+|[^\s_/=,;]+")
"""A cell may be broken at white space, and behind what holds the words of a name, a path or a pair together.

But not between a number and its unit, nor in the name of a variable, which is copied.
"""


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = " " * _GAP
    return [gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def laid_out(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[str] = (),
    width: int,
    height: int | None = None,
) -> RenderableType:
    """Return a table for a terminal; one that cannot be had so narrow is plain columns, in its colours all the same.

    Args:
        headings: one per column.
        rows: cells as text, harmless.
        styles: rich's style per row.
        width: of the terminal.
        height: lines that it may take, if it must not take more, as in a picture that is drawn again and again. Rows
            that find no place are left out then, and plain columns end where the terminal does.
    """
    columns = [_Column(cells) for cells in zip(headings, *_with_short_ids(headings, rows), strict=True)]
    styles = ["bold", *(styles or [""] * len(rows))]
    if not _narrowed(columns, width):
        lines = aligned(list(zip(*(column.cells for column in columns), strict=True)))
        styled = [Text(line, style) for line, style in zip(lines, styles, strict=True)]
        return Text("\n").join(styled) if height is None else cut_off("\n").join(styled[:height])
    heading, *wrapped = zip(*(map("\n".join, column.wrapped()) for column in columns), strict=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for column, text in zip(columns, heading, strict=True):
        table.add_column(Text(text), no_wrap=True, width=column.width)
    left = math.inf if height is None else height - _RULE - _lines(heading)
    for row, style in zip(wrapped, styles[1:], strict=True):
        left -= _lines(row)
        if left < 0:
            break
        table.add_row(*map(Text, row), style=style)
    return table


def cut_off(text: str, style: str = "") -> Text:
    """Return a text of which what is wider than the terminal is cut, and not wrapped."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _lines(row: Sequence[str]) -> int:
    return 1 + max(cell.count("\n") for cell in row)


def _with_short_ids(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    """Yield rows with ids as short as every command takes them, and no two of them alike."""
    where = [number for number, heading in enumerate(headings) if heading in _OF_SAGAS]
    ids = {row[number] for row in rows for number in where if _ID.fullmatch(row[number])}
    length = PREFIX_LENGTH
    while len({one[:length] for one in ids}) < len(ids):
        length += 1
    for row in rows:
        yield [cell[:length] if number in where and cell in ids else cell for number, cell in enumerate(row)]


class _Column:
    """The cells of a column, its heading the first of them, and how wide it is."""

    def __init__(self, cells: Sequence[str]) -> None:
        self.cells = cells
        self.width = max(map(cell_len, cells))
        self._look()

    def wrapped(self) -> list[list[str]]:
        """Return the lines of each cell."""
        return [_wrapped(cell, self.width) for cell in self.cells]

    def narrow(self) -> None:
        """Take the next width that is less."""
        self.width = self.next
        self._look()

    def _look(self) -> None:
        """Find the next width that is less, and how many more lines than cells there are then."""
        wrapped = [_wrapped(cell, self.width - 1) for cell in self.cells]
        self.next = max(cell_len(line) for lines in wrapped for line in lines)
        self.extra = sum(map(len, wrapped)) - len(self.cells)


def _narrowed(columns: Sequence[_Column], width: int) -> bool:
    """Make columns fit into a width, with as few cells broken as can be; return whether that goes at all."""
    while sum(column.width for column in columns) + _GAP * (len(columns) - 1) > width:
        can_be = [column for column in columns if column.next < column.width]
        if not can_be:
            return False
        min(can_be, key=lambda column: (column.extra, -column.width)).narrow()
    return True


def _wrapped(cell: str, width: int) -> list[str]:
    """Return the lines of a cell; one is wider than asked for if it cannot be broken."""
    if cell_len(cell) <= width:
        return [cell]
    lines, line = [], ""
    for piece in _PIECES.findall(cell):
        if line and cell_len(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
    return [*lines, line.rstrip()]
