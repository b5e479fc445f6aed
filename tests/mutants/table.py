"""The table of mutants, as docs/reliability.md has it, and the fates, as a terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence

from tests.mutants.mutants import MUTANTS
from tests.mutants.runner import Fate


def page() -> str:
    """Return the table for the page, in Markdown."""
    rows = ["| mutant | what it breaks | caught by |", "| --- | --- | --- |"]
    for mutant in MUTANTS:
        tests = ", ".join(f"`{test.removeprefix('tests/')}`" for test in mutant.caught_by)
        rows.append(f"| {mutant.name} | {mutant.why} | {tests} |")
    return "\n".join(rows)


def line(fate: Fate) -> str:
    """Return one fate as a line: mutant, end, seconds, tests."""
    tests = fate.missed or fate.mutant.caught_by
    shown = ", ".join(test.rpartition("::")[2] for test in tests)
    return f"{fate.mutant.name:<34} {fate.end:<9} {fate.seconds:5.1f} s  {shown}"


def summary(fates: Sequence[Fate], seconds: float) -> str:
    """Return what came of all."""
    caught = sum(fate.end == "caught" for fate in fates)
    return f"{caught} of {len(fates)} mutants caught, {seconds:.0f} s"
