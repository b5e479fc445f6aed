"""Operators and real workers: a remedy sets the workers going, two operators are two processes, a pause holds them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from sqlalchemy import text

from tests.saga.cases import SIGNED, until_asked
from tests.support.sagas import Pivoting, Scripted, record

pytestmark = pytest.mark.usefixtures("world")

_OPERATOR = """
import json, sys
from sagajobs.errors import CaseClosed, RemedyRefused
from sagajobs.root import engine
from tests.support.sagas import Pivoting, World
engine.register(Pivoting, World(engine))
who, remedy, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
engine.review.case(number)  # connected, before they start together
print("ready", flush=True)
sys.stdin.readline()
try:
    print(json.dumps(["won", getattr(engine.review, remedy)(number, who=who, why="mine").state]))
except CaseClosed as error:
    print(json.dumps(["told", str(error)]))
engine.database.close()
"""


def test_a_remedy_sets_the_workers_going(worker, world, app_engine):
    handle = Scripted.enqueue({"script": {"last": ["bug"], "cancel": ["permanent", "ok"]}})
    assert handle.wait(90) == "manual_review_required"
    assert app_engine.review.retry(app_engine.review.of(handle.id).number, **SIGNED).state == "compensating"
    assert handle.wait(90) == "compensated"
    assert not world.stands(f"{handle.id}/call")


def test_a_remedy_that_goes_forward_sets_them_going_too(worker, world, app_engine):
    handle = Pivoting.enqueue({"script": {"after": ["permanent", "ok"]}})
    assert handle.wait(90) == "manual_review_required"
    app_engine.review.retry(app_engine.review.of(handle.id).number, **SIGNED)
    assert handle.wait(90) == "completed"
    assert world.local(handle.id)[-1] == "after"


def test_a_cancel_reaches_a_saga_that_the_workers_have_in_hand(worker, world):
    handle = Scripted.enqueue({"script": {"call": ["deferred"]}})
    while handle.record().steps["first"].state != "done":
        threading.Event().wait(0.02)
    handle.pause(**SIGNED)
    tries = world.acts(handle.id).count("try:call")
    assert handle.status() == "paused"
    handle.resume(**SIGNED)
    while world.acts(handle.id).count("try:call") <= tries:
        threading.Event().wait(0.02)
    handle.cancel(**SIGNED)
    assert handle.wait(90) == "compensated"
    assert world.local(handle.id).count("undo_first") == 1


@pytest.mark.parametrize("round_", [0, *(pytest.param(more, marks=pytest.mark.siege) for more in (1, 2))])
def test_two_operators_in_two_processes(throwaway, app_engine, db, round_):
    handle = until_asked(throwaway, record(Pivoting, {"script": {"after": ["permanent", "ok"]}}))
    number = str(app_engine.review.of(handle.id).number)
    operators = [
        subprocess.Popen(
            [sys.executable, "-c", _OPERATOR, who, remedy, number],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who, remedy in (("Ann", "skip"), ("Bob", "abandon"))
    ]
    for operator in operators:
        assert operator.stdout.readline() == "ready\n"
    for operator in operators:
        operator.stdin.write("go\n")
        operator.stdin.flush()
    came = dict(
        zip(("Ann", "Bob"), (json.loads(operator.communicate(timeout=60)[0]) for operator in operators), strict=True)
    )
    (winner,) = (who for who, (outcome, _) in came.items() if outcome == "won")
    (told,) = (what for outcome, what in came.values() if outcome == "told")
    assert told.startswith(f"case {number} was settled by {winner} at ")
    assert db.execute(text("SELECT count(*) FROM saga_events WHERE event = 'review_closed'")).scalar_one() == 1
    assert handle.status() == {"Ann": "completed", "Bob": "manual_review_required"}[winner]
