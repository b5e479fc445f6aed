"""A program that becomes another one, tied to the life of the process that started it.

Run by path, with the standard library alone: ``python -I -S lifeline.py PARENT SIGNAL ACCOUNT ARGV...``

It gives up root's identity if it is told to, asks the kernel for a signal on its parent's death
(``PR_SET_PDEATHSIG``, Linux), and then executes ARGV in its own place, so that the pid stays the same. Doing
this in a program of its own rather than between fork and exec (`preexec_fn`) is what makes it safe in a
process that has threads.

The kernel sends the signal when the *thread* that started this program ends: whoever starts it must do so
from a thread that lives as long as it wants the program to live.

Elsewhere than on Linux there is no such signal: a child of a SIGKILLed parent lives on there, until the
undertaker (a supervisor's child) or the next keeper (an embedded server) ends it.
"""

from __future__ import annotations

import ctypes  # loaded before the identity changes: another account may not be able to read this library
import os
import sys

PR_SET_PDEATHSIG = 1
"""Number of the option in Linux's <linux/prctl.h>."""

NOT_EXECUTED = 127
"""Exit status for a program that could not be executed, as in a POSIX shell."""


def _take_identity(account: str) -> None:
    """Become `account`, written as uid:gid, or stay as we are if it is a single dash."""
    if account == "-":
        return
    uid, gid = (int(part) for part in account.split(":"))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _die_with(parent: int, signal_number: int) -> None:
    """Ask for `signal_number` when our parent dies; end at once if it has died already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
            errno = ctypes.get_errno()
            raise OSError(errno, os.strerror(errno))
    # The parent may have died before the call above, and then no signal will ever come.
    if os.getppid() != parent:
        sys.exit("lifeline: the parent is gone")


def main(arguments: list[str]) -> None:
    """Become the program that `arguments` name; see the module's text."""
    parent, signal_number, account, *program = arguments
    try:
        # The identity first: the kernel forgets the wish for a signal when the uid changes.
        _take_identity(account)
        _die_with(int(parent), int(signal_number))
        os.execvp(program[0], program)  # noqa: S606 - executing it without a shell is the purpose
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror or error}\n")
        sys.exit(NOT_EXECUTED)


if __name__ == "__main__":
    main(sys.argv[1:])
