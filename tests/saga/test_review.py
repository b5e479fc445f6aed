"""Manual review: every way into it, and what each remedy then does (SPEC 3; docs/design.md, Manual review)."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from sqlalchemy import text

from sagajobs.errors import CaseClosed, PermanentError, RemedyRefused, TransientError
from sagajobs.saga.remedies import Remedy
from tests.saga import cases
from tests.saga.cases import TAKES, A, D, R, S, U, name, settle
from tests.support.sagas import Killed, Pivoting, Scripted, record
from tests.support.tables import dump

ENDS = {
    (cases.exhausted_local, R): "completed",
    (cases.exhausted_local, S): "completed",
    (cases.exhausted_local, D): "completed",
    (cases.exhausted_local, U): "compensated",
    (cases.exhausted_external, R): "completed",
    (cases.exhausted_external, S): "completed",
    (cases.exhausted_external, D): "completed",
    (cases.exhausted_external, U): "compensated",
    (cases.exhausted_needed, R): "completed",
    (cases.exhausted_needed, U): "compensated",
    (cases.exhausted_needed_by_hand, R): "completed",
    (cases.exhausted_needed_by_hand, D): "completed",
    (cases.exhausted_needed_by_hand, U): "compensated",
    (cases.past_the_pivot, R): "completed",
    (cases.past_the_pivot, S): "completed",
    (cases.past_the_pivot, D): "completed",
    (cases.in_doubt_forward, R): "completed",
    (cases.in_doubt_forward, D): "completed",
    (cases.in_doubt_forward, U): "compensated",
    (cases.in_doubt_past_the_pivot, R): "completed",
    (cases.in_doubt_past_the_pivot, D): "completed",
    (cases.in_doubt_past_the_pivot, U): "completed",
    (cases.in_doubt_backward, R): "compensated",
    (cases.in_doubt_backward, U): "compensated",
    (cases.unrecorded, R): "completed",
    (cases.unrecorded, S): "completed",
    (cases.not_undone, R): "compensated",
    (cases.not_undone, U): "compensated",
    (cases.not_undone_locally, R): "compensated",
    (cases.not_undone_locally, U): "compensated",
    (cases.tried_in_vain, R): "completed",
    (cases.tried_in_vain, S): "completed",
    (cases.tried_in_vain, D): "completed",
    (cases.not_even_marked, R): "completed",
    (cases.not_even_marked, S): "completed",
    (cases.not_even_marked, D): "completed",
    (cases.not_taken_up, R): "completed",
    (cases.process_gone, D): "completed",
    (cases.process_gone, U): "compensated",
    (cases.process_could_not_undo, U): "compensated",
}
"""Where the saga ends after a remedy, all else going well."""


@pytest.mark.parametrize("about", TAKES, ids=name)
def test_a_case_takes_the_remedies_that_make_sense_and_refuses_the_others(throwaway, app_engine, db, about):
    handle = about(throwaway)
    reason, expected = TAKES[about]
    case = app_engine.review.of(handle.id)
    assert (case.reason, case.open, case.saga_id) == (reason, True, handle.id)
    assert set(app_engine.review.options(case.number).resolutions) == expected
    before = dump(db)
    for remedy in set(Remedy) - expected:
        with pytest.raises(RemedyRefused) as refused:
            settle(app_engine, case.number, remedy)
        assert str(refused.value).startswith(f"case {case.number} takes no {remedy}: ")
        assert all(str(takes) in str(refused.value).rpartition("it takes ")[2] for takes in expected)
    assert dump(db) == before


@pytest.mark.parametrize(("about", "remedy"), ENDS, ids=name)
def test_a_remedy_brings_the_saga_to_its_end(throwaway, app_engine, db, about, remedy):
    handle = about(throwaway)
    case = app_engine.review.of(handle.id)
    throwaway.worker.raised.clear()
    settle(app_engine, case.number, remedy)
    throwaway.sweep(handle)
    assert handle.status() == ENDS[about, remedy]
    closed = app_engine.review.case(case.number)
    assert (closed.closed_by, closed.resolution, closed.why) == ("Op", remedy, "looked at it")
    (event,) = [line for line in app_engine.review.history(case.number) if line.event == "review_closed"]
    assert event.step == case.step
    assert event.detail.items() >= {"remedy": remedy, "who": "Op", "why": "looked at it"}.items()
    assert db.execute(text("SELECT count(*) FROM review_cases")).scalar_one() == 1
    assert throwaway.worker.raised == []


def test_every_remedy_that_a_case_takes_is_tried_above():
    tried = {(about, remedy) for about, remedy in ENDS} | {(cases.in_doubt_backward, D), (cases.condition_raises, R)}
    assert tried == {(about, remedy) for about, (_, takes) in TAKES.items() for remedy in takes - {A}}


@pytest.mark.parametrize("about", TAKES, ids=name)
def test_an_abandoned_saga_stays_where_it_is_for_good(throwaway, app_engine, db, about):
    handle = about(throwaway)
    before = handle.record()
    case = app_engine.review.of(handle.id)
    settle(app_engine, case.number, A)
    after = handle.record()
    assert after.state == "manual_review_required"
    assert replace(after, steps={}) == replace(before, steps={}, hints=0)
    assert {glance.name: glance.state for glance in after.steps.values()} == {
        glance.name: glance.state for glance in before.steps.values()
    }
    assert db.execute(text("SELECT ended_at IS NOT NULL FROM sagas")).scalar_one()
    for remedy in Remedy:
        with pytest.raises(CaseClosed, match="abandon"):
            settle(app_engine, case.number, remedy)
    assert app_engine.review.cases() == []


# --- what the ends do not show ---


def test_what_is_undone_by_hand_before_the_pivot_has_the_rest_undone(throwaway, app_engine, world):
    handle = cases.in_doubt_forward(throwaway)
    settle(app_engine, app_engine.review.of(handle.id).number, U)
    assert world.local(handle.id) == ["first", "undo_first"]
    assert "cancel" not in world.acts(handle.id), "what a person has undone is not undone again"
    assert handle.record().steps["call"].state == "undone"


def test_what_is_undone_by_hand_past_the_pivot_is_done_again(throwaway, app_engine):
    handle = cases.in_doubt_past_the_pivot(throwaway)
    settle(app_engine, app_engine.review.of(handle.id).number, U)
    assert (handle.status(), handle.record().results["call"]) == ("completed", {"did": True})


def test_done_by_hand_while_undoing_it_is_undone_next(throwaway, app_engine, world):
    handle = cases.in_doubt_backward(throwaway)
    case = app_engine.review.of(handle.id)
    Scripted.definition.step("call").taker = lambda self, reference: {"key": f"{self.id}/call", "seen": reference}
    try:
        settle(app_engine, case.number, D)
    finally:
        Scripted.definition.step("call").taker = None
    assert handle.status() == "compensated"
    assert world.acts(handle.id).count("cancel") == 1
    assert not world.stands(f"{handle.id}/call")


def test_a_retry_looks_again_and_finds_what_stands(throwaway, app_engine, world):
    handle = cases.in_doubt_forward(throwaway)
    settle(app_engine, app_engine.review.of(handle.id).number, R)
    throwaway.sweep(handle)
    assert world.acts(handle.id).count("book") == 1, "found, not booked twice"
    assert handle.record().results["call"]["found"] is True


def test_a_retry_gives_every_attempt_again(throwaway, app_engine, world):
    handle = cases.until_asked(throwaway, record(Scripted, {"script": {"first": ["killed"] * 5 + ["ok"]}}))
    with contextlib.suppress(Killed):
        settle(app_engine, app_engine.review.of(handle.id).number, R)
    cases.until_asked(throwaway, handle)
    assert world.acts(handle.id).count("try:first") == 5, "two after a first one that may have been made, then three"
    assert len(app_engine.review.cases()) == 1
    settle(app_engine, app_engine.review.of(handle.id).number, R)
    assert throwaway.sweep(handle) == "completed"


def test_the_local_writes_of_a_step_done_by_hand_are_made_with_it(throwaway, app_engine, world):
    handle = cases.exhausted_external(throwaway)
    settle(app_engine, app_engine.review.of(handle.id).number, D)
    assert "note_call" in world.local(handle.id)
    assert handle.record().results["call"] == {"reference": "by-hand-1"}


def test_local_writes_that_are_refused_leave_everything_as_it_was(throwaway, app_engine, db):
    handle = cases.until_asked(throwaway, record(Scripted, {"script": {"call": ["killed"] * 3, "note_call": ["bug"]}}))
    case = app_engine.review.of(handle.id)
    before = dump(db, without=("test_world",))  # the world outside counts what was tried
    with pytest.raises(RemedyRefused, match=r"note_call.*KeyError") as refused:
        settle(app_engine, case.number, D)
    assert "confidential" not in str(refused.value)
    assert dump(db, without=("test_world",)) == before
    settle(app_engine, case.number, S)


@pytest.mark.parametrize("error", [PermanentError("that is another customer's"), TransientError("not now")])
def test_a_reference_that_its_author_refuses_changes_nothing(throwaway, app_engine, db, error):
    handle = cases.exhausted_external(throwaway)
    case = app_engine.review.of(handle.id)

    def refuse(self, reference):
        raise error

    before = dump(db)
    Scripted.definition.step("call").taker = refuse
    try:
        with pytest.raises(type(error), match=str(error)):
            settle(app_engine, case.number, D)
    finally:
        Scripted.definition.step("call").taker = None
    assert dump(db) == before
    settle(app_engine, case.number, A)


def test_a_saga_that_was_retried_and_went_well_shows_no_error(throwaway, app_engine):
    handle = cases.past_the_pivot(throwaway)
    settle(app_engine, app_engine.review.of(handle.id).number, R)
    assert handle.record().error is None
    assert handle.result() is not None


def test_locks_are_let_go_of_when_a_remedy_ends_the_saga(throwaway, app_engine, db):
    class Locking(Pivoting):
        name = "throwaway_locking"

        def locks(self):
            return ["thing:1"]

    app_engine.register(Locking, Pivoting.services)
    first = cases.until_asked(throwaway, record(Locking, {"script": {"after": ["permanent"]}}))
    second = record(Locking, {})
    throwaway.let_time_pass()
    throwaway.sweep(second, rounds=1)
    assert second.status() == "pending"
    settle(app_engine, app_engine.review.of(first.id).number, A)
    assert second.status() == "completed", "it is told at once"
    assert db.execute(text("SELECT count(*) FROM saga_locks")).scalar_one() == 0


NOTE = "INSERT INTO test_local (saga_id, step) VALUES (:id, :step)"


def noting(self, db, step) -> None:
    db.execute(text(NOTE), {"id": self.id, "step": f"settled {step}"})


@pytest.mark.parametrize("remedy", sorted(TAKES[cases.exhausted_local][1]), ids=name)
def test_the_application_s_own_tables_show_that_nobody_is_asked_any_more(
    throwaway, world, app_engine, monkeypatch, remedy
):
    handle = cases.exhausted_local(throwaway)
    monkeypatch.setattr(Scripted, "note_settled", noting)
    settle(app_engine, app_engine.review.of(handle.id).number, remedy)
    throwaway.sweep(handle)
    assert world.local(handle.id).count("settled first") == 1


def test_a_remedy_is_no_worse_for_tables_that_take_nothing(throwaway, world, app_engine, monkeypatch, caplog):
    def refused(self, db, step) -> None:
        noting(self, db, step)
        db.execute(text("SELECT 1 / 0"))

    handle = cases.exhausted_local(throwaway)
    monkeypatch.setattr(Scripted, "note_settled", refused)
    settle(app_engine, app_engine.review.of(handle.id).number, A)
    assert app_engine.review.of(handle.id).open is False
    assert world.local(handle.id) == []
    assert [one.levelname for one in caplog.records if one.name == "sagajobs.saga.noting"] == ["CRITICAL"]
