"""What a mutant is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One way to break the code.

    Attributes:
        name: how it is called.
        why: what is broken then, in one line.
        file: path in the tree.
        old: text that is there exactly once.
        new: what takes its place.
        caught_by: tests each of which must fail.
    """

    name: str
    why: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]
