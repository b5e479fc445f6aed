"""How things are shown: tables for a terminal or a pipe, JSON, and times as a person reads them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console, RenderableType

from sagajobs.cli.layout import aligned, laid_out

_NOT_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys instead of showing it, and what turns the direction of the text around it."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
"""The option of every command that shows something."""


def print_json(document: Any) -> None:
    """Print a document, with times in ISO 8601."""
    written = json.dumps(document, default=_plain, ensure_ascii=False)
    click.echo(_NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", written))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def harmless(text: str) -> str:
    """Return a text with all that a terminal would obey written as Python writes it in a string.

    Notes of customers and answers of other systems may hold anything, and are read by operators.
    """
    return _NOT_SHOWN.sub(lambda found: ascii(found[0])[1:-1], text)


def echo(line: str = "", *, err: bool = False) -> None:
    """Print a line that may quote others, on standard error if `err`."""
    click.echo(harmless(line), err=err)


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, styles: Sequence[str] = (), err: bool = False
) -> None:
    """Print rows below headings: a table on a terminal, aligned columns in a pipe.

    Args:
        headings: one per column.
        rows: cells as text; shown as they are, whatever they look like to rich, but for what a terminal obeys.
        styles: rich's style per row, for a terminal.
        err: print to standard error.
    """
    stream = sys.stderr if err else sys.stdout
    # A person looks at a terminal; a pipe gets no colours, whole ids, and every character in its line.
    if stream.isatty():
        console = Console(file=stream)
        console.print(drawn(headings, rows, styles=styles, width=console.width), soft_wrap=True)
        return
    for line in aligned([[harmless(cell) for cell in row] for row in [headings, *rows]]):
        click.echo(line, file=stream)


def drawn(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[str] = (),
    width: int,
    height: int | None = None,
) -> RenderableType:
    """Return a table for a terminal; arguments as for `print_table` and `laid_out`."""
    shown = [[harmless(cell) for cell in row] for row in rows]
    return laid_out(headings, shown, styles=styles, width=width, height=height)


def print_list(
    headings: Sequence[str], rows: Sequence[Sequence[str]], nothing: str, *, styles: Sequence[str] = ()
) -> None:
    """Print rows as `print_table` does or, if there are none, say so in the words of `nothing`."""
    if rows:
        print_table(headings, rows, styles=styles)
    else:
        click.echo(nothing)
