"""docs/testing.md does what it says: the example of the documents, tried as by somebody who has but the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sagajobs import testing

DOCS = Path(__file__).parent.parent.parent / "docs"
DOCUMENT = (DOCS / "testing.md").read_text(encoding="utf-8")


def _first_block(page: str) -> str:
    return re.search(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1]


SAGA, TEST = _first_block("writing-a-saga.md"), _first_block("testing.md")


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder with nothing but the example."""
    (tmp_path / "shipping.py").write_text(SAGA)
    (tmp_path / "test_shipping.py").write_text(TEST)
    return tmp_path


def _pytest(folder: Path, *arguments: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SAGAJOBS_", "PYTEST_"))}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments],
        cwd=folder,
        env=clean | environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    return ran.stdout


def test_the_example_passes_all_checks(project):
    """Though a production's database is named: the plug-in has servers of its own."""
    said = _pytest(project, "-q", SAGAJOBS_DATABASE_URL="postgresql://nobody@127.0.0.1:1/production")
    assert f"{len(testing.CHECKS)} passed" in said


def test_a_run_that_does_not_use_it_pays_nothing(tmp_path):
    (tmp_path / "test_other.py").write_text(
        "import os, sys\n"
        "def test_nothing_was_loaded():\n"
        "    loaded = {name for name in sys.modules if name.startswith('sagajobs')}\n"
        "    assert loaded == {'sagajobs', 'sagajobs.testing', 'sagajobs.testing.plugin'}\n"
        "    assert not {'celery', 'sqlalchemy', 'pydantic', 'requests'} & set(sys.modules)\n"
        "    assert [name for name in os.environ if name.startswith('SAGAJOBS_')] == []\n"
    )
    assert "1 passed" in _pytest(tmp_path, "-q")


@pytest.mark.parametrize("check", testing.CHECKS, ids=testing.name)
def test_each_check_is_explained(check):
    assert f"| `{check.__name__}` |" in DOCUMENT
