"""`python -m tests.again [ARGUMENT …]`: pytest, and then what failed once more, alone.

A machine that stands still for seconds, as CI's shared ones do, fails a test here and there of some thousands that wait
for real processes. What is wrong fails alone, too; what is not is named, and does not fail the run.
"""

from __future__ import annotations

import subprocess
import sys

TESTS_FAILED = 1
"""Pytest's exit code if tests failed, and nothing worse."""


def main(arguments: list[str]) -> int:
    """Run pytest with these arguments; return the exit code."""
    pytest = [sys.executable, "-m", "pytest", *arguments]
    code = subprocess.run(pytest, check=False).returncode
    if code != TESTS_FAILED:
        return code
    sys.stdout.write("\nEach that failed is tried once more, alone, until one fails again:\n")
    sys.stdout.flush()
    alone = ["--last-failed", "--last-failed-no-failures=none", "--numprocesses=0", "--dist=no", "--exitfirst", "-rfEp"]
    return subprocess.run([*pytest, *alone], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
