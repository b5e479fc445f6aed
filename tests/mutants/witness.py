"""A pytest plugin: writes down how each test ended, and that it was the copy of the tree that was tested."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

RECORD = "MUTANTS_RECORD"
"""Names, in the environment, the file that gets one line of JSON per test: what it is called, and how it ended."""


def pytest_configure(config: pytest.Config) -> None:
    spec = find_spec("sagajobs")  # finds it without importing it: that would read the environment
    if spec is None or spec.origin is None or not Path(spec.origin).is_relative_to(config.rootpath):
        raise pytest.UsageError(f"sagajobs is {spec and spec.origin}, not what lies in {config.rootpath}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a call that passed or failed; what goes wrong before the test or after it is no verdict of the test."""
    if report.when == "call" and "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(os.environ[RECORD]).open("a", encoding="utf-8") as record:
            record.write(json.dumps({"test": report.nodeid, "outcome": report.outcome}) + "\n")
