"""The commands on an author's own sagas: they know what the workers import, and nothing else slows down for it."""

from __future__ import annotations

import re

import pytest

MODULE = """
from pydantic import BaseModel
from sagajobs import PermanentError, RetryPolicy, Saga, step
from sagajobs.root import engine

class Form(BaseModel):
    number: int = 1

class FormSaga(Saga):
    name = "forms"
    Input = Form

    @step(irreversible=True)
    def begin(self, db):
        return None

    @step(pivot=True)
    def send(self, db):
        return None

    @step(retry=RetryPolicy(max_attempts=1))
    def file(self, db):
        raise PermanentError("the cabinet of mia.secret is full")

    @classmethod
    def public_status(cls, record):
        return "with the clerk"

engine.register(FormSaga)
"""

RUN = """
from sagajobs import SagaException
from forms import FormSaga
try:
    FormSaga.run({})
except SagaException as error:
    print(error.saga_id)
    print(error)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "forms.py").write_text(MODULE)
    (tmp_path / "celeryconfig.py").write_text('imports = ("forms",)\n')
    return tmp_path


@pytest.fixture
def asked(shell, folder, sql):
    """A saga of the author's that waits for a person, and what its caller was told."""
    shell.sagajobs("sagas", "list")
    done = shell.run("python", "-c", RUN, cwd=folder)
    assert done.status == 0, done.err
    yield done.out.splitlines()
    sql("TRUNCATE sagas CASCADE")


def test_a_case_of_an_authors_own_saga_is_explained_and_settled(shell, folder, asked):
    saga_id, told = asked
    assert told.endswith(f"see `sagajobs sagas explain {saga_id}`")
    number = str(next(case["case"] for case in shell.sagajobs("sagas", "review", "--json").json))
    for by in (saga_id, number):
        explained = shell.sagajobs("sagas", "explain", by, cwd=folder)
        assert explained.status == 0, explained.err
        assert "no code here knows" not in explained.out
        assert "skip:\n" in explained.out
        assert re.search(r"^cause +PermanentError \(its message: --private\)$", explained.out, re.MULTILINE)
        assert "secret" not in explained.out
    shown = shell.sagajobs("sagas", "show", saga_id, cwd=folder).out
    assert re.search(r"^customer sees +with the clerk$", shown, re.MULTILINE)
    by_celery = shell.celery("sagas", "skip", saga_id, "--why", "filed it myself", cwd=folder)
    assert by_celery.status == 0, by_celery.err
    assert by_celery.out.endswith(f"saga {saga_id} is completed\n")


def test_a_sweep_by_hand_knows_it_too(shell, folder, asked, sql):
    saga_id, _ = asked
    sql("UPDATE review_cases SET closed_at = saga_now(), closed_by = 'x', resolution = 'retry', why = 'x'")
    sql("UPDATE saga_steps SET state = 'waiting' WHERE name = 'file'")
    sql("UPDATE sagas SET state = 'running', next_at = saga_now() - interval '1 day'")
    swept = shell.sagajobs("sweep", cwd=folder)
    assert swept.status == 0, swept.err
    ((state,),) = sql("SELECT state FROM sagas WHERE id = CAST(:id AS uuid)", id=saga_id)
    assert state == "running", "hinted at, not handed to a person as if nobody knew it"


def test_a_module_that_cannot_be_imported_is_named(shell, folder, asked, one_line):
    saga_id, _ = asked
    (folder / "forms.py").write_text("import no_such_thing\n")
    wrong = shell.sagajobs("sagas", "explain", saga_id, cwd=folder)
    one_line(wrong, "module forms", "No module named 'no_such_thing'")
    for works in (["sagas", "list"], ["sagas", "review"], ["sagas", "explain", "--help"], ["--help"]):
        assert shell.sagajobs(*works, cwd=folder).status == 0, works
