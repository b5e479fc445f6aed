"""How the demonstration tells how far it is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_LINES = 8
"""Lines, about, that are printed in place of a bar."""


class Teller:
    """Tells of sagas that come to rest, and of what happens meanwhile.

    Args:
        total: how many sagas there will be.
        to_stderr: leave standard output to somebody else.
    """

    def __init__(self, total: int, *, to_stderr: bool) -> None:
        stream = sys.stderr if to_stderr else sys.stdout
        self.console = Console(
            file=stream, force_terminal=stream.isatty(), highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        self._total = total
        self._told = 0
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("sagas at rest"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self.console,
            )
            self._bar.start()
            self._bar.add_task("", total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        self.console.print(line)

    def at_rest(self, count: int) -> None:
        """Tell that so many sagas are at rest by now."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=count)
        elif count > self._told and (count == self._total or count - self._told >= self._total / _LINES):
            self._told = count
            self.say(f"{count} of {self._total} sagas are at rest")
