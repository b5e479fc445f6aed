"""How far long work has come: a bar on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from sagajobs.cli.output import echo, harmless


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar on standard error, if that is a terminal."""

    progress: Progress
    task: TaskID

    def done(self, more: int) -> None:
        """Say how much more is done."""
        self.progress.advance(self.task, more)

    def echo(self, line: str) -> None:
        """Print a line that may quote others, to standard output; on a terminal, above the bar."""
        if self.progress.disable or not sys.stdout.isatty():
            echo(line)
        else:
            self.progress.console.print(Text(harmless(line)), soft_wrap=True)


@contextmanager
def bar(total: int, what: str) -> Iterator[Bar]:
    """Show a bar while the block works; it is gone at the end.

    Args:
        total: how much there is to do.
        what: is done, before the bar.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,  # else what is meant for a file goes to the terminal
        redirect_stderr=False,
    ) as progress:
        yield Bar(progress, progress.add_task(what, total=total))
