"""`sagajobs sagas review`, `explain`, the remedies, `pause`, `resume`, `cancel`: as an operator types them."""

from __future__ import annotations

import getpass
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, RetryPolicy, SagaHandle
from sagajobs.testing import stack
from tests.cli.conftest import Shell
from tests.cli.inprocess import sagajobs
from tests.support.asked import ask
from tests.support.sagas import record
from tests.support.tables import change

SETTLE = text("UPDATE review_cases SET closed_at = saga_now(), resolution = :resolution WHERE closed_at IS NULL")
ANOTHER = text("""
    INSERT INTO review_cases (saga_id, reason, evidence, look_at, alert_at) VALUES (:id, :reason, '{}', now(), now())
""")

_ONCE = RetryPolicy(max_attempts=1, base=0.01)


@pytest.fixture
def sagas(nobody_told, simulator, monkeypatch):
    """Make sagas that begin so many hours from now: `review`, in doubt whether they are booked; or `pending`."""
    step = AppointmentCreationSaga.definition.step("book_calcom")
    monkeypatch.setattr(step, "finder", replace(step.finder, retry=_ONCE, over=0.01))
    monkeypatch.setattr(step, "retry", _ONCE)

    def make(what: str, *hours: int) -> list[str]:
        return [_review(number) if what == "review" else _pending(number).id for number in hours]

    def _pending(hours: int) -> SagaHandle:
        customer = {"name": "Mia Secret", "email": f"mia.secret{hours}@example.org", "time_zone": "UTC"}
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours)
        request = {"customer": customer, "event_type_id": 1, "start": start, "duration_minutes": 30}
        return record(AppointmentCreationSaga, request)

    def _review(hours: int) -> str:
        handle = _pending(hours)
        simulator.fault("create", "timeout", "after", count=1)
        simulator.fault("list", "http_503", "before", count=1)
        nobody_told.drive(AppointmentCreationSaga, handle.id)
        return handle.id

    return make


def test_the_desk_lists_the_nearest_appointment_first_and_settles_each_by_its_own_remedy(sagas, nobody_told, one_line):
    far, near = sagas("review", 200, 100)
    third = ask(nobody_told, hours=300).saga
    listed = sagajobs("sagas", "review", "--json").json
    assert [case["saga"] for case in listed] == [near, far, third]
    assert listed[0].items() >= {"step": "book_calcom", "was": "running", "looks": 0}.items()
    assert "evidence" not in listed[0]
    plain = sagajobs("sagas", "review").out.splitlines()
    assert plain[0].split() == ["case", "saga", "kind", "step", "reason", "for", "needed"]
    assert [line.split()[1] for line in plain[1:]] == [near, far, third]
    assert all(re.search(r"  in \d+ d \d+ h$", line) for line in plain[1:])
    number = str(listed[0]["case"])

    explained, by_number, dry, refused = (
        sagajobs("sagas", "explain", near[:8]),
        sagajobs("sagas", "explain", number, "--json"),
        sagajobs("sagas", "retry", near, "--dry-run"),
        sagajobs("sagas", "skip", number, "--who", "Ann", "--why", "no"),
    )
    for done in (explained, by_number, dry):
        assert done.status == 0, done.err
        assert "ecret" not in done.out
    assert re.search(rf"^case +{number}$", explained.out, re.MULTILINE)
    assert "skip: not here, step book_calcom may have happened, so say whether it did" in explained.out
    assert "it finds it now" in dry.out
    assert "resolve --done REFERENCE:\n" in explained.out
    assert "mark_" not in explained.out
    assert re.search(r"^cause +\w+ \(its message: --private\)$", explained.out, re.MULTILINE)
    assert {remedy["act"]: remedy["refused"] is None for remedy in by_number.json["remedies"]} == {
        "retry": True,
        "skip": False,
        "mark_done": True,
        "mark_undone": True,
        "abandon": True,
    }
    one_line(
        refused, f"case {number} takes no skip", "it takes retry, resolve --done REFERENCE, resolve --undone or abandon"
    )
    assert [SagaHandle(saga_id).status() for saga_id in (near, far, third)] == ["manual_review_required"] * 3

    retried, undone, abandoned = (
        sagajobs("sagas", "retry", number, "--who", "Ann", "--why", "Cal.com is back"),
        sagajobs("sagas", "resolve", far, "--undone", "--why", "cancelled it there", "--json"),
        sagajobs("sagas", "abandon", third, "--who", "Bob", "--why", "the customer came by"),
    )
    assert retried.out == f"case {number} settled by Ann: retry; saga {near} is running\n"
    assert undone.json.items() >= {"saga": far, "remedy": "mark_undone", "state": "compensating"}.items()
    assert undone.json["who"] == getpass.getuser(), "the user of the session, shown"
    assert abandoned.out.endswith(f"abandon; saga {third} is abandoned\n")
    assert f"{third}  appointment_creation  manual_review_required, abandoned" in sagajobs("sagas", "list").out
    shown = sagajobs("sagas", "show", third).out
    assert re.search(r"^state +manual_review_required, abandoned$", shown, re.MULTILINE)
    assert sagajobs("sagas", "review", "--json").json == []
    assert sagajobs("sagas", "review").out == "nothing waits for a person\n"

    late, gone, never = (
        sagajobs("sagas", "retry", near, "--why", "me too"),
        sagajobs("sagas", "explain", "4711"),
        sagajobs("sagas", "explain", "ffffffff"),
    )
    one_line(late, f"case {number} was settled by Ann at ", ": retry")
    one_line(gone, "there is no review case 4711 in this database; `sagajobs review --list` shows which are open\n")
    one_line(never, "there is no saga ffffffff")


def test_a_booking_found_by_hand_is_taken_over(sagas, simulator, db):
    (saga_id,) = sagas("review", 400)
    (uid,) = (made["uid"] for made in simulator.ledger())
    bad, good = ["sagas", "resolve", saga_id, "--done", "nobody"], ["sagas", "resolve", saga_id, "--done", uid]
    refused = sagajobs(*bad, "--why", "saw it there")
    assert refused.err == "Error: Cal.com has no booking nobody\n"
    assert sagajobs(*good, "--dry-run").status == 0
    done = sagajobs(*good, "--why", "saw it there for mia.secret", "--json")
    assert done.json["state"] == "running"
    assert db.execute(text("SELECT calcom_v2_booking_id FROM appointments")).scalar_one() == uid
    shown = sagajobs("sagas", "show", saga_id)
    assert "secret" not in shown.out
    assert "remedy=mark_done" in shown.out
    assert "mia.secret" in sagajobs("sagas", "show", saga_id, "--private").out


def test_a_saga_is_paused_resumed_and_cancelled(sagas, one_line):
    (saga_id,) = sagas("pending", 500)
    dry = sagajobs("sagas", "pause", saga_id[:8], "--dry-run")
    assert (dry.status, dry.out) == (0, "pause:\n  saga: pending → paused\n")
    assert SagaHandle(saga_id).status() == "pending"
    done = sagajobs("sagas", "pause", saga_id, "--who", "Ann", "--why", "wait")
    assert done.out == f"pause by Ann: saga {saga_id} is paused\n"
    again, early = (
        sagajobs("sagas", "pause", saga_id, "--why", "wait"),
        sagajobs("sagas", "cancel", saga_id, "--dry-run", "--json"),
    )
    one_line(again, "only one that is under way can be paused")
    assert early.json["changes"] == [
        "saga: paused → compensating",
        "saga: then compensated, as nothing is left to undo",
    ]
    done = sagajobs("sagas", "resume", saga_id, "--why", "go on", "--json")
    assert done.json.items() >= {"saga": saga_id, "act": "resume", "state": "pending"}.items()
    done = sagajobs("sagas", "cancel", saga_id, "--why", "the customer rang", "--json")
    assert done.json["state"] == SagaHandle(saga_id).status() == "compensating"
    one_line(sagajobs("sagas", "cancel", saga_id, "--why", "again"), "it is being undone already")
    assert re.search(r"^because of +Cancelled$", sagajobs("sagas", "show", saga_id).out, re.MULTILINE)


def test_what_is_missing_is_a_usage_error(sagas, one_line):
    (saga_id,) = sagas("review", 600)
    for wrong, told in (
        (["retry", saga_id], "give your reason with --why"),
        (["pause", saga_id], "give your reason with --why"),
        (["retry", saga_id, "--who", "", "--why", "x"], "say who you are with --who"),
        (["resolve", saga_id, "--why", "x"], "either --done REFERENCE or --undone"),
        (["resolve", saga_id, "--done", "u", "--undone", "--why", "x"], "either --done REFERENCE or --undone"),
    ):
        done = sagajobs("sagas", *wrong)
        assert done.status == 2
        assert told in done.err
    one_line(sagajobs("sagas", "retry", saga_id, "--why", " "), "why: give the reason")


def test_celery_has_the_same_commands(sagas, tmp_path):
    shell = Shell(tmp_path, stack.addresses())
    (saga_id,) = sagas("review", 700)
    theirs = shell.celery("sagas", "explain", saga_id, "--json")
    ours = sagajobs("sagas", "explain", saga_id, "--json").json
    assert {**theirs.json, "age_seconds": 0} == {**ours, "age_seconds": 0}
    done = shell.celery("sagas", "abandon", saga_id, "--why", "the test is over")
    assert (done.status, done.out.count("\n"), done.err) == (0, 1, "")


def test_the_list_names_the_step_that_a_person_is_asked_about(sagas, nobody_told):
    """As the review does, also where another one's failure had turned the saga round."""
    sagas("review", 800)
    change(nobody_told, """UPDATE sagas SET error = '{"step": "assign_staff", "class": "Other"}'""")
    assert [saga["step"] for saga in sagajobs("sagas", "list", "--json").json] == ["book_calcom"]


def test_of_a_saga_with_several_cases_the_open_one_is_shown_and_what_was_settled_is_counted(nobody_told):
    asked = ask(nobody_told)

    def shown() -> list[str]:
        lines = sagajobs("sagas", "show", asked.saga).out.splitlines()
        return [re.sub(r"20\S+ [\d:+]+", "WHEN", line) for line in lines if line.startswith("review ")]

    assert shown() == [f"review         it failed (since WHEN, open): see sagajobs explain {asked.saga}"]
    with nobody_told.database.transaction() as db:
        db.execute(SETTLE, {"resolution": "retry"})
    assert shown() == ["review         it failed (since WHEN, retry WHEN)"]
    for resolution in ("skip", "mark_done"):
        with nobody_told.database.transaction() as db:
            db.execute(ANOTHER, {"id": asked.saga, "reason": f"before {resolution}"})
            db.execute(SETTLE, {"resolution": resolution})
    assert shown() == ["review         before mark_done (since WHEN, mark_done WHEN); 2 settled before it"]
    with nobody_told.database.transaction() as db:
        db.execute(ANOTHER, {"id": asked.saga, "reason": "and now this"})
    assert shown() == [
        f"review         and now this (since WHEN, open): see sagajobs explain {asked.saga}",
        "review         before mark_done (since WHEN, mark_done WHEN); 2 settled before it",
    ]
