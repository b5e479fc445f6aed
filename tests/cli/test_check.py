"""`check --in-flight`: what the new code could not finish, asked before it is deployed."""

from __future__ import annotations

import re

import pytest

MODULE = """
from pydantic import BaseModel
from sagajobs import Saga, step
from sagajobs.root import engine

class Form(BaseModel):
    sender: str

class FormSaga(Saga):
    name = "inflight_forms"
    Input = Form

    @step
    def stamp(self, db):
        return None

    @stamp.compensation
    def tear_up(self, db):
        return None

engine.register(FormSaga)
"""

WITHOUT_UNDO = MODULE.replace("@step\n", "@step(irreversible=True)\n").partition("    @stamp.comp")[0] + (
    "engine.register(FormSaga)\n"
)
NUMBERED = MODULE.replace("sender: str", "sender: int")

RECORD = """
from sagajobs.root import engine
engine.publisher.steps = lambda *_: None  # nobody is told
from inflight_forms import FormSaga
for number in range(3):
    print(FormSaga.enqueue({"sender": "mia.secret"}).id)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inflight_forms.py").write_text(MODULE)
    (tmp_path / "celeryconfig.py").write_text('imports = ("inflight_forms",)\n')
    return tmp_path


@pytest.fixture
def recorded(shell, folder, sql):
    """Three sagas of the author's in flight, one of them paused."""
    done = shell.run("python", "-c", RECORD, cwd=folder)
    assert done.status == 0, done.err
    ids = done.out.split()
    sql(
        "UPDATE sagas SET state = 'paused', paused_from = state, next_at = NULL WHERE id = CAST(:id AS uuid)", id=ids[0]
    )
    yield ids
    sql("TRUNCATE sagas CASCADE")


def test_what_the_code_in_hand_could_not_finish_is_told_with_the_reason_and_what_to_do(shell, folder, recorded):
    module = folder / "inflight_forms.py"
    able = shell.sagajobs("check", "--in-flight", cwd=folder)
    assert (able.status, able.out, able.err) == (0, "3 sagas in flight, 0 that this code cannot finish\n", "")

    module.write_text(WITHOUT_UNDO)
    row = (
        r"^inflight_forms +1 +3 +2 pending, 1 paused +[0-9a-f-]{36} +"
        r"as recorded, step stamp has an undo; in this version of the code that is not so$"
    )
    end = "3 sagas in flight, 3 that this code cannot finish\nDo not deploy this yet: register the former"
    ours = shell.sagajobs("check", "--in-flight", cwd=folder)
    by_celery = shell.celery("sagas", "check", "--in-flight", cwd=folder)
    for done in (ours, by_celery):
        assert done.status == 3
        assert re.search(row, done.out, re.MULTILINE)
        assert end in done.out
        assert "celeryconfig.py" not in done.out

    module.write_text(NUMBERED)
    refused = shell.sagajobs("check", "--in-flight", "--json", cwd=folder)
    assert refused.status == 3
    (stranded,) = refused.json["stranded"]
    assert stranded.pop("example") in recorded
    assert stranded == {
        "name": "inflight_forms",
        "version": 1,
        "sagas": 3,
        "states": {"pending": 2, "paused": 1},
        "reason": "today's Form does not take its sender",
    }
    assert "secret" not in refused.out

    elsewhere = shell.sagajobs("check", "--in-flight")
    assert elsewhere.status == 3
    assert "no code here knows this kind of saga" in elsewhere.out
    assert elsewhere.out.endswith("Type it where their celeryconfig.py is.\n")


def test_what_is_to_be_checked_is_said_aloud(shell):
    usage = shell.sagajobs("check")
    assert usage.status == 2
    assert "--in-flight" in usage.err
