"""The commands as a plug-in of `celery`, above all in the processes of other projects."""

from __future__ import annotations

import pytest

OTHER = """
from celery import Celery
app = Celery("other", broker="memory://")
"""

LOADED = """
import sys
from celery.bin.celery import celery
from celery.signals import setup_logging, worker_process_init
assert type(celery.commands["sagas"]).__name__ == "LazyGroup", celery.commands["sagas"]
ours = sorted(name for name in sys.modules if name.split(".")[0] == "sagajobs")
heavy = sorted({"sqlalchemy", "pydantic", "psycopg2", "requests", "rich", "alembic"} & set(sys.modules))
print(*ours)
print(*heavy)
print(len(setup_logging.receivers or ()), len(worker_process_init.receivers or ()))
"""


@pytest.fixture
def others(tmp_path):
    (tmp_path / "other.py").write_text(OTHER)
    return tmp_path


def test_another_project_loads_next_to_nothing_of_ours(shell, others):
    done = shell.run("python", "-c", LOADED, cwd=others)
    assert done.status == 0, done.err
    ours, heavy, receivers = done.out.splitlines()
    assert ours.split() == [
        "sagajobs",
        "sagajobs.cli",
        "sagajobs.cli.groups",
        "sagajobs.cli.program",
        "sagajobs.cli.sagas",
        "sagajobs.flower",
        "sagajobs.flower.door",
        "sagajobs.flower.handlers",
        "sagajobs.flower.install",
        "sagajobs.flower.tab",
        "sagajobs.plugin",
    ]
    # Flower, a plug-in too, may bring some of them; what counts is that nothing of ours connects or configures.
    assert not {"sqlalchemy", "psycopg2", "alembic"} & set(heavy.split())
    assert receivers.split()[0] == "0"


def test_another_project_is_not_broken_by_our_settings(shell, others, make_home):
    wrong = shell.with_env(SAGAJOBS_NONSENSE="1", SAGAJOBS_STALL_AFTER="soon", SAGAJOBS_HOME=str(make_home() / "none"))
    listed = wrong.run("celery", "-A", "other", "--help", cwd=others)
    assert (listed.status, listed.err) == (0, "")
    assert "Look at sagas" in listed.out
    report = wrong.run("celery", "-A", "other", "report", cwd=others)
    assert report.status == 0
    assert "sagajobs" not in report.out + report.err


def test_our_commands_there_are_told_in_one_line_too(shell, others, one_line):
    wrong = shell.with_env(SAGAJOBS_NONSENSE="1")
    one_line(wrong.celery("sagas", "list", project="other", cwd=others), "SAGAJOBS_NONSENSE")
    right = shell.celery("sagas", "list", "--json", project="other", cwd=others)
    assert right.status == 0
    assert isinstance(right.json, list)


def test_a_celeryconfig_of_the_current_folder_counts(shell, tmp_path):
    (tmp_path / "celeryconfig.py").write_text("worker_concurrency = 7\n")
    done = shell.celery("report", cwd=tmp_path)
    assert "worker_concurrency: 7" in done.out


def test_a_celeryconfig_is_found_by_an_installed_package(shell, tmp_path):
    (tmp_path / "celeryconfig.py").write_text("worker_concurrency = 7\n")
    code = (
        "import pathlib, sys, sagajobs\n"
        # Beside our sources lies a celeryconfig.py, which an installation does not have.
        "sys.path.remove(str(pathlib.Path(sagajobs.__file__).parents[1]))\n"
        "print(sagajobs.app.conf.worker_concurrency)"
    )
    assert shell.run("python", "-P", "-c", code, cwd=tmp_path).out == "7\n"


def test_the_package_exports_the_application_whatever_is_imported_first(shell):
    for first in ("import sagajobs.root", "from sagajobs.root import engine", "import sagajobs.saga"):
        code = f"{first}\nfrom sagajobs import app, SagaState\nimport sagajobs\nprint(sagajobs.app is app, app.main)"
        assert shell.run("python", "-c", code).out == "True sagajobs\n"


def test_every_exported_name_is_there(shell):
    code = (
        "import sagajobs\n"
        "assert set(sagajobs.__all__) <= set(dir(sagajobs))\n"
        "for name in sagajobs.__all__: getattr(sagajobs, name)\n"
        "assert sagajobs.AppointmentCreationSaga.engine.kinds\n"
        "try: sagajobs.nothing\n"
        "except AttributeError as error: print(error)"
    )
    assert shell.run("python", "-c", code).out == "module 'sagajobs' has no attribute 'nothing'\n"


@pytest.mark.parametrize("command", ["worker", "beat", "flower"])
def test_a_wrong_setting_is_one_line_in_celery_too(shell, one_line, command):
    wrong = shell.with_env(SAGAJOBS_DATABASE_URL="mysql://somewhere/else")
    one_line(wrong.celery(command), "SAGAJOBS_DATABASE_URL", "mysql")
