"""The desk of whoever reviews: which case comes first, what it says, and what is asked of him."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs.errors import CaseNotFound, InvalidInput, RemedyRefused, SagaNotFound
from sagajobs.saga import SagaHandle, faultpoints, step
from sagajobs.saga.faultpoints import Point
from sagajobs.saga.remedies import Remedy
from sagajobs.saga.states import SagaState
from tests.saga import cases
from tests.saga.cases import SIGNED, A, D, R, S, settle
from tests.support.sagas import Pivoting, Scripted, record
from tests.support.tables import dump


def test_the_nearest_appointment_stands_first(throwaway, app_engine):
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    far, never, near = (
        cases.until_asked(
            throwaway,
            throwaway.record(
                pivot=step(pivot=True)(cases.nothing),
                act=step(cases.fails_then_works(ValueError())),
                useful_until=lambda self, until=until: until,
            ),
        )
        for until in (now + timedelta(days=3), None, now + timedelta(hours=2))
    )
    listed = app_engine.review.cases()
    assert [case.saga_id for case in listed] == [near.id, far.id, never.id]
    assert [case.saga_id for case in app_engine.review.cases(limit=1)] == [near.id]
    assert 6600 < listed[0].urgent_in < 7200


def test_a_new_case_says_what_the_saga_was_and_when_somebody_looks_and_is_alerted(throwaway, app_engine, db):
    from datetime import UTC, datetime, timedelta

    soon = datetime.now(UTC) + timedelta(minutes=70)
    throwaway_soon = throwaway.record(
        pivot=step(pivot=True)(cases.nothing),
        act=step(cases.fails_then_works(ValueError())),
        useful_until=lambda self: soon,
    )
    handles = [cases.past_the_pivot(throwaway), cases.not_undone(throwaway), cases.unknown_kind(throwaway)]
    handles.append(cases.until_asked(throwaway, throwaway_soon))
    rows = {
        str(row.saga_id): row
        for row in db.execute(
            text(
                "SELECT saga_id, was, extract(epoch FROM look_at - opened_at) AS look, "
                "extract(epoch FROM alert_at - opened_at) AS alert FROM review_cases"
            )
        )
    }
    assert [rows[handle.id].was for handle in handles] == ["running", "compensating", "pending", "running"]
    assert {float(row.look) for row in rows.values()} == {60.0}
    assert [float(rows[handle.id].alert) for handle in handles[:3]] == [900.0] * 3
    assert 400 < float(rows[handles[3].id].alert) < 600, "an hour before the appointment"


def test_who_and_why_are_required(throwaway, app_engine, db):
    case = app_engine.review.of(cases.past_the_pivot(throwaway).id)
    before = dump(db)
    for remedy in Remedy:
        for missing in ({"who": " "}, {"why": ""}, {"who": "a\nb"}, {"why": "nul \0"}):
            with pytest.raises(InvalidInput, match=next(iter(missing))):
                settle(app_engine, case.number, remedy, **missing)
    with pytest.raises(InvalidInput, match="reference"):
        settle(app_engine, case.number, D, reference=" ")
    assert dump(db) == before
    settle(app_engine, case.number, A)


def test_cases_and_sagas_that_there_are_not(app_engine, world):
    for number in (0, 4711, 2**80):
        with pytest.raises(CaseNotFound, match=str(number)):
            app_engine.review.case(number)
    with pytest.raises(SagaNotFound):
        app_engine.review.of("no id")
    handle = record(Scripted, {})
    app_engine.drive(Scripted, handle.id)
    with pytest.raises(CaseNotFound, match=handle.id):
        app_engine.review.of(handle.id)


def test_a_case_shows_nothing_private_in_its_repr(throwaway, app_engine):
    case = app_engine.review.of(cases.past_the_pivot(throwaway).id)
    assert "confidential detail" in str(case.evidence)
    assert "confidential" not in repr(case)
    settle(app_engine, case.number, A, why="the customer is confidential")
    assert "confidential" not in repr(app_engine.review.case(case.number))


def test_a_paused_saga_takes_no_remedy_until_it_is_resumed(throwaway, app_engine):
    handle = record(Pivoting, {"script": {"after": ["permanent", "ok"]}})
    for named in ("before", "pivot"):
        app_engine.executor.forward(Pivoting, Pivoting.definition.step(named), handle.id)

    def pause(point, _saga_id, named):
        if (point, named) == (Point.AFTER_CLAIM, "after"):
            handle.pause(**SIGNED)

    with faultpoints.installed(pause):
        app_engine.executor.forward(Pivoting, Pivoting.definition.step("after"), handle.id)
    case = app_engine.review.of(handle.id)
    assert (case.state, case.was, case.open) == (SagaState.PAUSED, "running", True)
    with pytest.raises(RemedyRefused, match="resume it first"):
        settle(app_engine, case.number, R)
    assert handle.resume(**SIGNED) == "manual_review_required"
    settle(app_engine, case.number, R)
    assert handle.status() == "completed"


def test_another_process_settles_it(throwaway, app_engine):
    handle = cases.past_the_pivot(throwaway)
    assert SagaHandle(handle.id).engine.review.of(handle.id).reason == "failed past the pivot"
    settle(app_engine, app_engine.review.of(handle.id).number, S)
    assert handle.record().steps["after"].state == "skipped"
