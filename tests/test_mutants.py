"""The list of mutants (`make mutants`) fits the tree, its page fits the list, and its runner can tell.

All mutants take minutes, so here (with `make chaos`) it is one that must be caught, beside one that nothing can notice.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants import table
from tests.mutants.mutants import MUTANTS
from tests.mutants.runner import End, Rotten, broken, run

ROOT = Path(__file__).parent.parent
VERSIONS = Path("sagajobs/migrations/versions")
SAMPLE = next(mutant for mutant in MUTANTS if mutant.name == "undo-forwards")


def test_each_has_a_name_of_its_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_it_replaces_is_there_once_and_what_it_makes_is_python(mutant):
    compile(broken(mutant), mutant.file, "exec")
    assert mutant.old != mutant.new


@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS if VERSIONS in Path(mutant.file).parents], ids=lambda mutant: mutant.name
)
def test_what_it_breaks_in_a_migration_is_not_made_anew_by_a_later_one(mutant):
    broke, here = ROOT / mutant.file, (ROOT / mutant.file).read_text(encoding="utf-8")
    (*_, function) = re.findall(r"FUNCTION (\w+)\(", here[: here.index(mutant.old)])
    later = [one.name for one in broke.parent.glob("0*.py") if one.name > broke.name]
    again = [name for name in later if f"FUNCTION {function}(" in (broke.parent / name).read_text(encoding="utf-8")]
    assert again == []


@pytest.mark.parametrize("old", ["no such text anywhere", "import"])
def test_what_is_not_there_once_is_an_error(old):
    with pytest.raises(Rotten, match="undo-forwards"):
        broken(replace(SAMPLE, old=old))


def test_the_tests_that_are_to_catch_them_exist():
    tests = sorted({test for mutant in MUTANTS for test in mutant.caught_by})
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TEST_"))}
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert collected.returncode == 0, collected.stdout[-2000:] + collected.stderr[-2000:]


def test_the_page_has_them_as_they_are():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert table.page() in page, "put in what `python -m tests.mutants --table` prints"


@pytest.mark.siege
def test_one_is_caught_and_one_that_changes_nothing_survives(tmp_path):
    tmp_path.chmod(0o755)  # as root, the database server of the tests runs as another user
    harmless = replace(SAMPLE, name="harmless", old=SAMPLE.old, new=f"{SAMPLE.old}  # as before")
    quick = [replace(mutant, caught_by=SAMPLE.caught_by[:1]) for mutant in (SAMPLE, harmless)]
    told: list = []
    fates = run(quick, jobs=1, folder=tmp_path, tell=told.append)
    assert [(fate.mutant.name, fate.end) for fate in fates] == [
        ("undo-forwards", End.CAUGHT),
        ("harmless", End.SURVIVED),
    ]
    assert told == fates


def test_a_list_whose_tests_fail_on_the_tree_as_it_is_says_nothing(tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(Rotten, match="on the unbroken tree these do not pass"):
        run(
            [replace(SAMPLE, caught_by=("tests/saga/test_plan.py::test_nothing",))], jobs=1, folder=tmp_path, tell=print
        )
