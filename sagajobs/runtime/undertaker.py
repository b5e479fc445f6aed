"""A program that ends what a supervisor leaves behind when it is SIGKILLed.

Run by path, with the standard library alone: ``python -I -S undertaker.py``, its standard input a pipe whose
other end is open in the supervisor only. A line ``+PID`` names a process group that is to die with the
supervisor, ``-PID`` one that has ended. The end of the input means that the supervisor is gone, however it
went.

The kernel's own signal (see `lifeline`) reaches the children alone; this one reaches their children too.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def bury(lines: Iterable[str]) -> None:
    """Follow `lines` to their end, then kill every group that is still on the list."""
    groups: set[int] = set()
    for line in lines:
        sign, group = line[0], int(line[1:])
        if sign == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:  # the kernel's signal was faster: this is what we want
            continue


if __name__ == "__main__":
    bury(sys.stdin)
