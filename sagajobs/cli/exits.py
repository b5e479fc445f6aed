"""What the exit status of a command says; `docs/cli.md` has it as a table."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """An exit status."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    VIOLATED = 2
    STRANDED = 3
    UNDONE = 4
    ASKED = 5
    LEFT = 6


MEANINGS = {
    Exit.DONE: "Done. `watch ID`: the saga is completed. `watch` and `review` end with it on Ctrl-C, too.",
    Exit.FAILED: "It failed; one line on standard error says why, and what to do. `demo`: something is out of order.",
    Exit.USAGE: "It was typed wrong, and nothing was done. `invariants`: rows break an invariant.",
    Exit.STRANDED: "`check`: the code in hand could not finish some sagas.",
    Exit.UNDONE: "`watch ID`: the saga was undone.",
    Exit.ASKED: "`watch ID`: the saga waits for a person: in review, abandoned, or paused.",
    Exit.LEFT: "`retry`, `skip`, `abandon` of many cases: some of them were not settled; the others are.",
}
"""Each status, and what it says."""
