"""`sagajobs sagas review`, `explain`, the remedies, `pause`, `resume`, `cancel`: as an operator types them."""

from __future__ import annotations

import getpass
import re

import pytest

_ASK = """
import contextlib, sys
from dataclasses import replace
import requests
from datetime import UTC, datetime, timedelta
from sqlalchemy.orm import Session
from sagajobs import AppointmentCreationSaga, RetryPolicy
from sagajobs.root import engine, servers
brief = RetryPolicy(max_attempts=1, base=0.01)
step = AppointmentCreationSaga.definition.step("book_calcom")
step.finder, step.retry = replace(step.finder, retry=brief, over=0.01), brief
engine.publisher = None
for number in sys.argv[2:]:
    customer = {"name": "Mia Secret", "email": f"mia.secret{number}@example.org", "time_zone": "UTC"}
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=int(number))
    with Session(engine.database.engine) as session, session.begin():
        handle = engine._start(
            AppointmentCreationSaga,
            {"customer": customer, "event_type_id": 1, "start": start, "duration_minutes": 30},
            None,
            session,
        )
    if sys.argv[1] == "review":
        control = servers().calcom + "/_simulator/faults"
        for fault in ({"operation": "create", "kind": "timeout", "when": "after", "count": 1},
                      {"operation": "list", "kind": "http_503", "when": "before", "count": 1}):
            requests.post(control, json=fault, timeout=5).raise_for_status()
        engine.drive(AppointmentCreationSaga, handle.id)
    print(handle.id)
"""


@pytest.fixture(autouse=True)
def _clean(shell, sql):
    """The home is shared with other files, which count what they find."""
    shell.sagajobs("sagas", "list")
    sql("TRUNCATE sagas, appointments, customers CASCADE")
    yield
    sql("TRUNCATE sagas, appointments, customers CASCADE")


@pytest.fixture
def sagas(shell):
    """Make sagas that begin so many hours from now: `review`, in doubt whether they are booked; or `pending`."""
    patient = shell.with_env(SAGAJOBS_CALCOM_CIRCUIT_FAILURES="1000")  # what fails here must not stop other tests

    def make(what: str, *hours: int) -> list[str]:
        done = patient.run("python", "-c", _ASK, what, *map(str, hours))
        assert done.status == 0, done.err
        return done.out.split()

    return make


def state(sql, saga_id: str) -> str:
    ((found,),) = sql("SELECT state FROM sagas WHERE id = CAST(:id AS uuid)", id=saga_id)
    return found


def test_the_desk_lists_the_nearest_appointment_first_and_settles_each_by_its_own_remedy(shell, sagas, sql, one_line):
    far, near, third = sagas("review", 200, 100, 300)
    listed = shell.sagajobs("sagas", "review", "--json").json
    assert [case["saga"] for case in listed] == [near, far, third]
    assert listed[0].items() >= {"step": "book_calcom", "was": "running", "looks": 0}.items()
    assert "evidence" not in listed[0]
    plain = shell.sagajobs("sagas", "review").out.splitlines()
    assert plain[0].split() == ["case", "saga", "kind", "step", "reason", "for", "needed", "in"]
    assert [line.split()[1] for line in plain[1:]] == [near, far, third]
    number = str(listed[0]["case"])

    explained, by_number, dry, refused = shell.at_once(
        ["sagas", "explain", near[:8]],
        ["sagas", "explain", number, "--json"],
        ["sagas", "retry", near, "--dry-run"],
        ["sagas", "skip", number, "--who", "Ann", "--why", "no"],
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
    assert [state(sql, saga_id) for saga_id in (near, far, third)] == ["manual_review_required"] * 3

    retried, undone, abandoned = shell.at_once(
        ["sagas", "retry", number, "--who", "Ann", "--why", "Cal.com is back"],
        ["sagas", "resolve", far, "--undone", "--why", "cancelled it there", "--json"],
        ["sagas", "abandon", third, "--who", "Bob", "--why", "the customer came by"],
    )
    assert retried.out == f"case {number} settled by Ann: retry; saga {near} is running\n"
    assert undone.json.items() >= {"saga": far, "remedy": "mark_undone", "state": "compensating"}.items()
    assert undone.json["who"] == getpass.getuser(), "the user of the session, shown"
    assert abandoned.out.endswith(f"abandon; saga {third} is abandoned\n")
    assert f"{third}  appointment_creation  manual_review_required, abandoned" in shell.sagajobs("sagas", "list").out
    shown = shell.sagajobs("sagas", "show", third).out
    assert re.search(r"^state +manual_review_required, abandoned$", shown, re.MULTILINE)
    assert shell.sagajobs("sagas", "review", "--json").json == []
    assert shell.sagajobs("sagas", "review").out == "nothing waits for a person\n"

    late, gone, never = shell.at_once(
        ["sagas", "retry", near, "--why", "me too"],
        ["sagas", "explain", "4711"],
        ["sagas", "explain", "ffffffff"],
    )
    one_line(late, f"case {number} was settled by Ann at ", ": retry")
    one_line(gone, "there is no review case 4711")
    one_line(never, "there is no saga ffffffff")


def test_a_booking_found_by_hand_is_taken_over(shell, sagas, sql):
    import requests

    (saga_id,) = sagas("review", 400)
    bookings = requests.get(f"{shell.simulator}/_simulator/ledger", timeout=5).json()["bookings"]
    (uid,) = (made["uid"] for made in bookings if saga_id in made["metadata"].get("sagajobs_key", ""))
    bad, good = ["sagas", "resolve", saga_id, "--done", "nobody"], ["sagas", "resolve", saga_id, "--done", uid]
    refused = shell.sagajobs(*bad, "--why", "saw it there")
    assert refused.err == "Error: Cal.com has no booking nobody\n"
    assert shell.sagajobs(*good, "--dry-run").status == 0
    done = shell.sagajobs(*good, "--why", "saw it there for mia.secret", "--json")
    assert done.json["state"] == "running"
    ((found,),) = sql("SELECT calcom_v2_booking_id FROM appointments WHERE saga_id = CAST(:id AS uuid)", id=saga_id)
    assert found == uid
    shown = shell.sagajobs("sagas", "show", saga_id)
    assert "secret" not in shown.out
    assert "remedy=mark_done" in shown.out
    assert "mia.secret" in shell.sagajobs("sagas", "show", saga_id, "--private").out
    shell.sagajobs("sagas", "pause", saga_id, "--why", "the test is over")


def test_a_saga_is_paused_resumed_and_cancelled(shell, sagas, sql, one_line):
    (saga_id,) = sagas("pending", 500)
    dry = shell.sagajobs("sagas", "pause", saga_id[:8], "--dry-run")
    assert (dry.status, dry.out) == (0, "pause:\n  saga: pending → paused\n")
    assert state(sql, saga_id) == "pending"
    done = shell.sagajobs("sagas", "pause", saga_id, "--who", "Ann", "--why", "wait")
    assert done.out == f"pause by Ann: saga {saga_id} is paused\n"
    again, early = shell.at_once(
        ["sagas", "pause", saga_id, "--why", "wait"], ["sagas", "cancel", saga_id, "--dry-run", "--json"]
    )
    one_line(again, "only one that is under way can be paused")
    assert early.json["changes"] == [
        "saga: paused → compensating",
        "saga: then compensated, as nothing is left to undo",
    ]
    done = shell.sagajobs("sagas", "resume", saga_id, "--why", "go on", "--json")
    assert done.json.items() >= {"saga": saga_id, "act": "resume", "state": "pending"}.items()
    done = shell.sagajobs("sagas", "cancel", saga_id, "--why", "the customer rang", "--json")
    assert done.json["state"] == state(sql, saga_id) == "compensating"
    one_line(shell.sagajobs("sagas", "cancel", saga_id, "--why", "again"), "it is being undone already")
    assert re.search(r"^because of +Cancelled$", shell.sagajobs("sagas", "show", saga_id).out, re.MULTILINE)


def test_what_is_missing_is_a_usage_error(shell, sagas, one_line):
    (saga_id,) = sagas("review", 600)
    for wrong, told in (
        (["retry", saga_id], "give your reason with --why"),
        (["pause", saga_id], "give your reason with --why"),
        (["retry", saga_id, "--who", "", "--why", "x"], "say who you are with --who"),
        (["resolve", saga_id, "--why", "x"], "either --done REFERENCE or --undone"),
        (["resolve", saga_id, "--done", "u", "--undone", "--why", "x"], "either --done REFERENCE or --undone"),
    ):
        done = shell.sagajobs("sagas", *wrong)
        assert done.status == 2
        assert told in done.err
    one_line(shell.sagajobs("sagas", "retry", saga_id, "--why", " "), "why: give the reason")
    assert shell.sagajobs("sagas", "abandon", saga_id, "--why", "the test is over").status == 0


def test_celery_has_the_same_commands(shell, sagas):
    (saga_id,) = sagas("review", 700)
    theirs = shell.celery("sagas", "explain", saga_id, "--json")
    ours = shell.sagajobs("sagas", "explain", saga_id, "--json").json
    assert {**theirs.json, "age_seconds": 0} == {**ours, "age_seconds": 0}
    done = shell.celery("sagas", "abandon", saga_id, "--why", "the test is over")
    assert (done.status, done.out.count("\n")) == (0, 1)


def test_the_list_names_the_step_that_a_person_is_asked_about(shell, sagas, sql):
    """As the review does, also where another one's failure had turned the saga round."""
    (saga_id,) = sagas("review", 800)
    sql("""UPDATE sagas SET error = '{"step": "assign_staff", "class": "Other"}'""")
    assert [saga["step"] for saga in shell.sagajobs("sagas", "list", "--json").json] == ["book_calcom"]
    shell.sagajobs("sagas", "abandon", saga_id, "--why", "the test is over")
