"""`sagajobs demo`."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import ExitStack

import pytest

from tests.cli.conftest import looking_for_ports
from tests.support.documents import assert_shown, outputs

pytestmark = [pytest.mark.demo, pytest.mark.timeout(1800)]

NOBODY = "found nobody at work to kill"
"""What it says when all stands still just while the calls are slow that it kills workers in."""


def test_the_demonstration(shell, make_home, living_in, eventually, one_line, tmp_path):
    said = (tmp_path / "told").read_text
    for _ in range(3):
        there = shell.with_env(
            SAGAJOBS_HOME=str(home := make_home()), SAGAJOBS_DATABASE_URL="postgresql://not.used.example/x"
        )
        argv = [str(there.program), "demo", "--json"]
        with (tmp_path / "told").open("w") as told, ExitStack() as start:
            start.enter_context(looking_for_ports())
            with subprocess.Popen(argv, env=there.env, stdout=subprocess.PIPE, stderr=told, text=True) as first:
                eventually(lambda first=first: "Flower shows" in said() or first.poll() is not None, "the start")
                start.close()
                one_line(there.sagajobs("demo"), "sagajobs demo is running", str(home))
                out, _ = first.communicate(timeout=600)
        err = said()
        assert first.returncode == 0, err
        if NOBODY not in err:
            break
    assert out.count("\n") == 1
    counted = json.loads(out)
    assert counted.pop("seconds") > 0
    assert counted == {
        "sagas": 52,
        "outcomes": {"completed": 42, "compensated": 10, "manual_review_required": 0},
        "invariant_violations": 0,
        "orphans": 0,
        "lost": 0,
        "workers_killed": 2,
    }
    assert_shown(outputs("README.md")[0], err)
    assert re.search(r"^appointment_creation +compensated +SlotTaken +book_calcom +4$", err, re.MULTILINE)
    assert re.search(r"^appointment_creation +compensated +SlotNotFree +create_appointment +4$", err, re.MULTILINE)
    assert re.search(r"^appointment_sync +completed +- +- +8$", err, re.MULTILINE)
    assert re.search(r"^composite_booking +compensated +SlotTaken +book_segment\[\d\] +\d$", err, re.MULTILINE)
    assert re.search(r"^killed process \d+ of worker-[12] in the middle of a call to Cal\.com$", err, re.MULTILINE)
    assert re.search(r"^killed worker-[12] \(pid \d+\) .* the supervisor started pid \d+$", err, re.MULTILINE)
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert "52 of 52 sagas are at rest" in err
    eventually(lambda: not living_in(home), "the end of all processes")

    # What it says to type next works, and finds what it has left.
    lines = re.findall(r"^    (SAGAJOBS_HOME=\S+) (\S+) (.*)$", err, re.MULTILINE)
    assert [rest for _, _, rest in lines] == ["sagas list --state compensated", "sagas show ID", "invariants"]
    setting, program, arguments = lines[0]
    listed = subprocess.run(
        ["/usr/bin/env", "-u", "SAGAJOBS_DATABASE_URL", setting, program, *arguments.split(), "--json"],
        env=there.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(json.loads(listed.stdout)) == 10


def test_what_a_demonstration_left_is_removed_and_nothing_else(shell, make_home, one_line):
    there = shell.with_env(SAGAJOBS_HOME=str(home := make_home()))
    left, other = home / "demo", home / "postgres"
    for folder in (left, other):
        folder.mkdir()
    one_line(there.sagajobs("demo", "--clean"), "is no demonstration's")
    (left / "sagajobs-demo").touch()
    assert there.sagajobs("demo", "--clean").status == 0
    assert (left.exists(), other.exists()) == (False, True)


def test_a_folder_that_is_no_demonstrations_is_left_alone(shell, make_home, one_line):
    home = make_home()
    (home / "demo").mkdir()
    (home / "demo" / "thesis.txt").write_text("three years")
    one_line(shell.with_env(SAGAJOBS_HOME=str(home)).sagajobs("demo"), "is no demonstration's")
    assert (home / "demo" / "thesis.txt").read_text() == "three years"
