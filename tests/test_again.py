"""CI's second try: for what a machine that stood still has failed, and for nothing else."""

import os
import subprocess
import sys

import pytest

from tests import again

TESTS = """
import os, pathlib
seen = pathlib.Path(__file__).with_name("seen")
how = os.environ["HOW"]
def test_beside():
    there = seen.exists()
    seen.touch()
    assert there
def test_well(): pass
def test_wrong(): assert how != "wrong"
def test_gone(): assert how != "gone" or os._exit(3)
"""


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [("well", 0, "1 passed in"), ("wrong", 1, "FAILED"), ("gone", 3, "once more, alone")],
)
def test_what_fails_alone_too_fails_the_run(tmp_path, how, code, said):
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.again", "-q", "--numprocesses=2", f"--rootdir={tmp_path}", str(tmp_path)],
        env=os.environ | {"HOW": how},
        capture_output=True,
        text=True,
        check=False,
    )
    _, again_said = done.stdout.split("Each that failed is tried", 1)
    assert done.returncode == code, done.stdout
    assert said in again_said
    assert "test_well" not in again_said


def test_what_is_no_failure_of_a_test_is_not_tried_again(capfd):
    assert again.main(["--no-such-option"]) == pytest.ExitCode.USAGE_ERROR
    assert "once more" not in capfd.readouterr().out
