"""What PostgreSQL does not store (NUL, half a surrogate pair) must fail the step, not the commit that records it."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from sagajobs.errors import PermanentError, SagaException
from sagajobs.saga import SagaOrchestrator, step
from sagajobs.saga.store import describe_error, to_json
from tests.support.sagas import QUICK

BAD = pytest.mark.parametrize("bad", ["a NUL \x00", "half a pair \ud800"])


def _raising(error: Exception):
    def act(self, _):
        raise error

    return act


def _external(call, look):
    made = step(external=True, irreversible=True, retry=QUICK)(call)
    made.probe(looks=2, over=0.0, retry=QUICK)(look)
    return made


@BAD
@pytest.mark.parametrize("external", [False, True])
def test_in_the_message_of_an_error(throwaway, bad, external):
    act = step(irreversible=True, external=external, idempotent=external)(_raising(PermanentError(bad)))
    assert throwaway.sweep(throwaway.record(act=act)) == "compensated"
    assert throwaway.worker.raised == []


@BAD
def test_in_the_result_of_a_local_step(throwaway, bad):
    handle = throwaway.record(act=step(irreversible=True)(lambda self, db: {bad: 1}))
    assert throwaway.sweep(handle) == "compensated"
    assert throwaway.worker.raised == []


@BAD
def test_in_the_result_of_an_external_step_and_of_its_probe(throwaway, bad):
    handle = throwaway.record(act=_external(lambda self, key: [bad], lambda self, key: [bad]))
    assert throwaway.sweep(handle) == "manual_review_required", "it stands outside and cannot be put on record"
    assert throwaway.worker.raised == []


def test_in_the_error_of_a_probe(throwaway):
    handle = throwaway.record(act=_external(_raising(TimeoutError()), _raising(RuntimeError("\x00"))))
    assert throwaway.sweep(handle) == "manual_review_required"
    assert throwaway.worker.raised == []


@BAD
def test_in_an_orchestrated_saga(throwaway, app_engine, db, bad):
    undone = []

    def refuse(_result):
        raise ValueError(bad)

    saga = SagaOrchestrator("throwaway", engine=app_engine)
    saga.execute_step("kept", lambda: bad, undone.append)
    with pytest.raises(SagaException):
        saga.execute_step("failing", lambda: refuse(None))
    assert undone == [bad]
    (error,) = db.execute(text("SELECT error FROM saga_steps WHERE name = 'failing'")).scalars()
    assert error["class"] == "builtins.ValueError"


def test_an_error_that_cannot_say_what_it_is():
    class Mute(Exception):
        def __str__(self) -> str:
            raise KeyError

    assert describe_error(Mute(), "act", 1, "permanent")["message"] == "(KeyError while its message was read)"


@pytest.mark.parametrize("value", ["\x00", {"\x00": 1}, ["\\\x00"], "\udfff", float("nan"), object()])
def test_refused(value):
    with pytest.raises((TypeError, ValueError)):
        to_json(value)


@pytest.mark.parametrize("value", ["\\u0000", "\\\\u0000", "u0000", "😀", {"ü": None}])
def test_what_only_looks_like_it_is_stored(db, value):
    document = json.dumps(to_json(value))
    assert db.execute(text("SELECT CAST(:v AS jsonb)"), {"v": document}).scalar_one() == value
