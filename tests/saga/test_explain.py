"""What is said of a remedy before it is done: for sagas that can be rehearsed, and for those that cannot."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs.errors import CaseClosed, CaseNotFound, RehearsalOver, RemedyRefused
from sagajobs.saga import Remedy, Saga, step
from sagajobs.saga.explain import explain, explain_cancel, explain_pause, explain_resume
from tests.saga import cases
from tests.saga.cases import SIGNED, TAKES, name
from tests.support.sagas import Scripted, record
from tests.support.tables import dump


def prospects(engine, handle, **more):
    found = explain(engine, engine.review.of(handle.id).number, **more)
    return {prospect.act: prospect for prospect in found.prospects}


@pytest.mark.parametrize("about", TAKES, ids=name)
def test_every_remedy_is_explained_or_refused_and_nothing_changes(throwaway, app_engine, db, about):
    handle = about(throwaway)
    before = dump(db)
    found = prospects(app_engine, handle)
    assert dump(db) == before
    assert list(found) == list(Remedy)
    assert {Remedy(act) for act, prospect in found.items() if prospect.refused is None} == TAKES[about][1]
    for prospect in found.values():
        assert (prospect.refused is None) == bool(prospect.changes)
        for act in prospect.follows:
            assert act.calls == (), "what cannot be rehearsed is not run"
            assert ("not known" in act.says) == act.external
            assert ("cannot be told: ZeroDivisionError" in act.says) == (about is cases.condition_raises)


@pytest.mark.parametrize("about", TAKES, ids=name)
def test_what_was_said_comes_true(throwaway, app_engine, about):
    for remedy in TAKES[about][1]:
        handle = about(throwaway)
        (said,) = explain(app_engine, app_engine.review.of(handle.id).number, only=remedy).prospects
        app_engine.publisher = None
        reference = {"reference": "by-hand"} if remedy is Remedy.MARK_DONE else {}
        getattr(app_engine.review, remedy)(app_engine.review.of(handle.id).number, **reference, **SIGNED)
        app_engine.publisher = throwaway.worker
        after = handle.record()
        told = [line for line in said.changes if line.startswith("saga: manual_review_required → ")]
        assert told == ([] if remedy is Remedy.ABANDON else [f"saga: manual_review_required → {after.state}"])
        for line in said.changes:
            if line.startswith("step "):
                named, _, change = line.removeprefix("step ").partition(": ")
                assert after.steps[named].state == change.partition(",")[0].split(" ")[-1]
        with app_engine.database.transaction() as connection:
            connection.execute(text("DELETE FROM sagas"))


def test_a_local_step_is_described_by_its_first_line(throwaway, app_engine):
    def act(self, db):
        """Tell the customer.

        More of it.
        """
        raise ValueError

    pivot = step(pivot=True)(cases.nothing)
    handle = cases.until_asked(throwaway, throwaway.record(pivot=pivot, act=step(act)))
    (followed,) = prospects(app_engine, handle)["retry"].follows
    assert (followed.says, followed.external, followed.act) == ("Tell the customer.", False, "run")


class _Services:
    """Reads from a list, writes to another; rehearsed, it writes down what it would write."""

    def __init__(self, calls=None):
        self.sent, self.calls = [], calls

    def rehearsing(self):
        calls = []
        return _Services(calls), calls

    def send(self, path, body):
        if self.calls is not None:
            self.calls.append({"method": "POST", "path": path, "body": body, "masked": {"name": "***"}})
            raise RehearsalOver
        self.sent.append((path, body))


@pytest.fixture
def rehearsable(throwaway):
    """A saga whose only step fails for good past its pivot, and whose calls can be rehearsed."""
    services = _Services()

    def send(self, key):
        try:
            self.services.send("/letters", {"name": "Confidential", "key": key})
        except Exception:  # noqa: BLE001 - what a careless author writes
            return {}
        raise ValueError

    act = step(external=True, idempotent=True, retry=cases.ONCE)(send)
    kind = throwaway.kind(pivot=step(pivot=True)(cases.nothing), act=act)
    kind.services = services
    return cases.until_asked(throwaway, record(kind, {})), services, kind


def test_the_exact_call_is_shown_and_not_made(app_engine, rehearsable):
    handle, services, kind = rehearsable
    made = list(services.sent)
    (act,) = prospects(app_engine, handle)["retry"].follows
    assert act.calls == ({"method": "POST", "path": "/letters", "body": {"name": "***"}},)
    (act,) = prospects(app_engine, handle, private=True)["retry"].follows
    assert act.calls[0]["body"] == {"name": "Confidential", "key": f"{handle.id}/act"}
    assert services.sent == made
    assert kind.services is services, "the class keeps its own"


def test_a_step_that_would_fail_now_says_how(app_engine, rehearsable, monkeypatch):
    handle, _, kind = rehearsable

    def fail(self, key):
        raise ValueError("Confidential")

    monkeypatch.setattr(kind.definition.step("act"), "method", fail)
    (act,) = prospects(app_engine, handle)["retry"].follows
    assert "it would fail now, before any change: ValueError" in act.says
    assert "Confidential" not in act.says
    (act,) = prospects(app_engine, handle, private=True)["retry"].follows
    assert "ValueError: Confidential" in act.says


def test_what_is_held_back_is_said_to_be(app_engine, rehearsable, monkeypatch):
    handle, _, kind = rehearsable
    monkeypatch.setattr(kind.definition.step("act"), "hold", lambda saga: 12.0)
    (act,) = prospects(app_engine, handle)["retry"].follows
    assert "held back for 12 s" in act.says


def test_what_is_marked_done_while_undoing_is_the_first_to_be_undone(throwaway, app_engine):
    handle = cases.in_doubt_backward(throwaway)
    follows = prospects(app_engine, handle)["mark_done"].follows
    assert [(undo.step, undo.act) for undo in follows] == [("call", "undo"), ("first", "undo")]


def test_without_services_for_it_nothing_can_be_rehearsed():
    assert Saga.rehearse(None) is None
    assert Saga.rehearse(_Services()) is not None


def test_explaining_what_is_not_there_or_makes_no_sense(throwaway, app_engine):
    with pytest.raises(CaseNotFound):
        explain(app_engine, 4711)
    handle = cases.not_undone(throwaway)
    number = app_engine.review.of(handle.id).number
    with pytest.raises(RemedyRefused, match="takes no skip"):
        explain(app_engine, number, only=Remedy.SKIP)
    app_engine.review.abandon(number, **SIGNED)
    with pytest.raises(CaseClosed):
        explain(app_engine, number)


def test_pause_resume_and_cancel_are_explained_too(throwaway, app_engine, db):
    handle = record(Scripted, {})
    app_engine.executor.forward(Scripted, Scripted.definition.step("first"), handle.id)
    before = dump(db)
    assert explain_pause(app_engine, handle.id).changes == ("saga: running → paused",)
    said = explain_cancel(app_engine, handle.id)
    assert said.changes == ("saga: running → compensating",)
    assert [(act.step, act.act, act.says) for act in said.follows] == [("first", "undo", "not described")]
    with pytest.raises(RemedyRefused):
        explain_resume(app_engine, handle.id)
    assert dump(db) == before
    handle.pause(**SIGNED)
    said = explain_resume(app_engine, handle.id)
    assert said.changes == ("saga: paused → running",)
    assert [act.step for act in said.follows] == ["call"]
    handle.resume(**SIGNED)
    throwaway.sweep(handle)


def test_cancelling_what_has_done_nothing_leaves_nothing_to_undo(throwaway, app_engine):
    handle = record(Scripted, {})
    assert explain_cancel(app_engine, handle.id).changes == (
        "saga: pending → compensating",
        "saga: then compensated, as nothing is left to undo",
    )
    handle.cancel(**SIGNED)
    assert handle.status() == "compensated"
