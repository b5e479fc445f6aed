"""How commands are typed: what stands below the options of a command's help, and by which name we were called."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def examples(*lines: str) -> str:
    """Return how a command is typed, a line each, as click takes it for an `epilog`."""
    return "\n".join(("Examples:", "", "\b", *(f"    {line}" for line in lines)))


def called() -> str:
    """Return what the user types for `sagajobs`: bare if his shell finds the program that runs by its name."""
    path = sys.argv[0]
    name = Path(path).name
    if name != "sagajobs":  # python -m, or Celery's program
        return "sagajobs"
    found = shutil.which(name)
    same = found is not None and Path(path).exists() and Path(path).samefile(found)
    return name if same else shlex.quote(path)
