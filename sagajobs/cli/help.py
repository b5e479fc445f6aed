"""What stands below the options of a command's help."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """Return how a command is typed, a line each, as click takes it for an `epilog`."""
    return "\n".join(("Examples:", "", "\b", *(f"    {line}" for line in lines)))
