"""Breaks a copy of the tree as each mutant says, and runs the tests that are to notice it.

The copy is what is imported, by pytest and by the workers that it starts: it stands first in `PYTHONPATH`, pytest runs
in it, `witness` refuses to begin otherwise, and some mutants show in nothing but a worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import cache_from_source
from pathlib import Path

from tests.mutants.mutant import Mutant
from tests.mutants.witness import RECORD

ROOT = Path(__file__).parents[2]
TREE = ("sagajobs", "tests", "pyproject.toml")
"""What is copied: enough for tests of engine, bookings and client."""

PATIENCE = 300
"""Seconds for the tests of one mutant, servers included."""

LONGEST_TEST = 90
"""Seconds for one test of a mutant, where it would have 180: one that hangs has failed."""

STOPPING = 30
"""Seconds for pytest to stop what it has started."""

PATIENCE_UNBROKEN = 900
"""Seconds for the tests of all mutants on the unbroken copy."""


class Rotten(Exception):
    """The list of mutants does not fit the tree any more: correct it."""


class End(StrEnum):
    """What became of a mutant."""

    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    """A test that is to notice it passed."""
    UNCLEAR = "UNCLEAR"
    """The tests did not run, or hung: servers that did not start, say, or a mutant that cannot be imported."""


@dataclass(frozen=True)
class Fate:
    """What became of a mutant: `seconds` that it took, `missed` the tests that should have failed and did not."""

    mutant: Mutant
    end: End
    seconds: float
    missed: Sequence[str] = field(default=())
    said: str = ""


def broken(mutant: Mutant, root: Path = ROOT) -> str:
    """Return the text of the mutant's file as it is when broken.

    Raises:
        Rotten: what is to be replaced is not there exactly once.
    """
    text = (root / mutant.file).read_text(encoding="utf-8")
    if (found := text.count(mutant.old)) != 1:
        raise Rotten(f"{mutant.name}: what it replaces is {found} times in {mutant.file}, not once:\n{mutant.old}")
    return text.replace(mutant.old, mutant.new)


def run(mutants: Sequence[Mutant], *, jobs: int, folder: Path, tell: Callable[[Fate], None]) -> list[Fate]:
    """Try mutants, so many side by side.

    Args:
        mutants: which ones.
        jobs: how many at a time.
        folder: an empty one, for the copies; removing it is the caller's.
        tell: called with each fate as it is known.

    Raises:
        Rotten: the list does not fit the tree, or its tests do not pass on the unbroken copy.
    """
    texts = {mutant.name: broken(mutant) for mutant in mutants}
    unbroken = folder / "unbroken"
    _copy(ROOT, unbroken)
    tests = sorted({test for mutant in mutants for test in mutant.caught_by})
    parallel = [f"--numprocesses={jobs}", "--dist=loadscope"] if jobs > 1 and len(tests) > jobs else []
    ends, said = _pytest(unbroken, tests, PATIENCE_UNBROKEN, *parallel)
    if failing := [test for test in tests if _outcomes(ends, test) != {"passed"}]:
        raise Rotten(f"on the unbroken tree these do not pass: {', '.join(failing)}\n{said}")

    def attempt(mutant: Mutant) -> Fate:
        began = time.monotonic()
        copy = folder / mutant.name
        _copy(unbroken, copy)
        target = copy / mutant.file
        target.write_text(texts[mutant.name], encoding="utf-8")
        # Compiled code is known by size and second; a mutant may share both with what it was made from.
        Path(cache_from_source(str(target))).unlink(missing_ok=True)
        ends, said = _pytest(copy, mutant.caught_by, PATIENCE, f"--timeout={LONGEST_TEST}")
        shutil.rmtree(copy)
        fate = _fate(mutant, ends, said, time.monotonic() - began)
        tell(fate)
        return fate

    with ThreadPoolExecutor(jobs) as threads:
        return list(threads.map(attempt, mutants))


def _fate(mutant: Mutant, ends: dict[str, str], said: str, seconds: float) -> Fate:
    outcomes = {test: _outcomes(ends, test) for test in mutant.caught_by}
    if missed := [test for test, seen in outcomes.items() if seen and "failed" not in seen]:
        return Fate(mutant, End.SURVIVED, seconds, missed, said)
    if unclear := [test for test, seen in outcomes.items() if not seen]:
        return Fate(mutant, End.UNCLEAR, seconds, unclear, said)
    return Fate(mutant, End.CAUGHT, seconds)


def _outcomes(ends: dict[str, str], test: str) -> set[str]:
    """Return how a test ended or, if it is one with parameters and none are given, how its cases did."""
    return {outcome for name, outcome in ends.items() if name == test or name.startswith(f"{test}[")}


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for name in TREE:
        if (source / name).is_dir():
            # Without compiled code that is being written: its file has another name by when it is copied.
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            shutil.copy2(source / name, target / name)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a pytest that has not ended: asked to, it stops the workers and servers that it has started."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOPPING)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _pytest(copy: Path, tests: Sequence[str], patience: float, *options: str) -> tuple[dict[str, str], str]:
    """Run tests in a copy; return how each ended, and the end of what pytest said."""
    record, log = copy / "record.jsonl", copy / "pytest.log"
    record.touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TEST_"))}
    environment |= {"PYTHONPATH": str(copy), RECORD: str(record)}
    arguments = ["-q", "-p", "tests.mutants.witness", "-p", "no:cacheprovider", "--tb=short", *options, *tests]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=copy,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        finally:  # also when we are interrupted
            _end(process)
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    return {line["test"]: line["outcome"] for line in lines}, log.read_text(errors="replace")[-3000:]
