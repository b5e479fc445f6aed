"""Commands at a terminal: typed into, read, interrupted."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import psutil
from pexpect.fdpexpect import fdspawn

from sagajobs.testing import nursery
from sagajobs.testing.waiting import wait_for

LINES, COLUMNS = 60, 170

_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(fdspawn):
    """The end of a terminal that a person sits at; `process` sits at the other one."""

    def __init__(self, ours: int, theirs: int, process) -> None:
        super().__init__(ours, timeout=120, encoding="utf-8")
        self.theirs = theirs
        self.process = process
        self.read_so_far = ""

    def expect_exact(self, pattern, *args, **kwargs) -> int:
        found = super().expect_exact(pattern, *args, **kwargs)
        self.read_so_far += self.before + (self.after if isinstance(self.after, str) else "")
        return found

    def says(self, *texts: str) -> None:
        """Wait until it says these, one after the other."""
        for text in texts:
            self.expect_exact(text)

    def type(self, line: str) -> None:
        """Type a line."""
        self.send(f"{line}\n")

    def interrupt(self) -> None:
        """Press Ctrl-C, once it waits for a key: between its question and that Python would not hear it."""
        wait_for(lambda: psutil.Process(self.process.pid).status() == psutil.STATUS_SLEEPING)
        self.send("\x03")

    def ends(self) -> int:
        """Wait for its end, once it has said something, and return the exit status."""
        os.close(self.theirs)  # kept until now: without anybody at it, a terminal reads as closed
        self.expect_exact(pexpect.EOF)
        self.process.join(60)
        assert self.process.exitcode is not None
        return self.process.exitcode

    @property
    def text(self) -> str:
        """What it has said, without colours and movements of the cursor."""
        return _STYLE.sub("", self.read_so_far).replace("\r\n", "\n")


@contextmanager
def at_terminal(*argv: str, lines: int = LINES, columns: int = COLUMNS, **environment: str) -> Iterator[Terminal]:
    """Type `sagajobs …` at a terminal, on the database of this process; it is gone afterwards."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = nursery.start(
        "tests.cli.terminal:main",
        ("sagajobs", *argv),
        folder=Path.cwd(),
        environment={**plain, "TERM": "xterm", **environment},
        out=Path(os.ttyname(theirs)),  # the first of a session that opens a terminal is controlled by it
    )
    terminal = Terminal(ours, theirs, process)
    try:
        yield terminal
    finally:
        if process.exitcode is None:
            process.kill()
            process.join()
        terminal.close()


def main() -> None:
    """Run `sagajobs` with the terminal that it writes to as its standard input, too."""
    os.dup2(os.open(os.ttyname(1), os.O_RDONLY), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the process
    from sagajobs.cli import main as sagajobs

    sagajobs()
