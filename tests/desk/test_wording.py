"""How things are said, on the command line and in Flower alike."""

from __future__ import annotations

from sqlalchemy import text

from sagajobs.desk.wording import coming, doing, pairs, since_start, span, trouble
from sagajobs.flower import looking
from tests.cli.inprocess import sagajobs
from tests.support.asked import ask

LATER = text("""
    INSERT INTO saga_events (saga_id, event, at)
    SELECT id, 'step_probed', created_at + make_interval(secs => :seconds) FROM sagas WHERE id = :id
""")


def test_what_a_step_waits_for_is_said_in_the_same_words_everywhere():
    idle = {"state": "waiting", "owner": None, "due_in": None, "leased_for": None, "seconds": None, "error": None}
    idle |= {"attempts": 1, "undo_attempts": 0, "probes": 0}
    for changes, said in (
        ({}, "-"),
        ({"due_in": 5.0}, "due in 5 s"),
        ({"due_in": -5.0}, "-"),
        ({"state": "unknown", "due_in": 5.0}, "due in 5 s"),
        ({"state": "done", "due_in": 5.0}, "-"),
        ({"state": "running", "owner": "w/1", "leased_for": 12.0}, "w/1 for 12 s more"),
        ({"state": "running", "owner": "w/1", "leased_for": -1.0}, "its worker is gone"),
        ({"state": "undoing", "owner": "w/1", "leased_for": None}, "its worker is gone"),
        ({"state": "undoing", "owner": "w/1", "due_in": 5.0}, "due in 5 s"),  # failed, and to be tried again
        ({"state": "undoing", "owner": "w/1", "due_in": -0.5}, "-"),
        ({"state": "waiting", "owner": "w/1", "leased_for": 0.5}, "w/1 for 0.5 s more"),
    ):
        step = {**idle, **changes}
        assert doing(step) == said, changes
        assert looking._step(step, anew=False)["now"] == said, changes


def test_how_long_is_said_shortly():
    said = {
        0.0: "0 s",
        0.000834: "< 1 ms",
        -0.0002: "< 1 ms",
        0.0731: "0.073 s",
        0.25: "0.25 s",
        9.04: "9.04 s",
        12.4: "12 s",
        59.7: "1 min",
        61: "1 min 1 s",
        125: "2 min 5 s",
        7799.9: "2 h 10 min",
        97_230: "1 d 3 h",
        -97_230: "-1 d 3 h",
    }
    assert {seconds: span(seconds) for seconds in said} == said


def test_when_something_was_is_said_alike_everywhere_however_late(nobody_told):
    said = {0.0: "+0 s", 0.0004: "+0 s", -0.0004: "+0 s", 0.42: "+0.42 s", 125.0: "+2 min 5 s", 97_230.0: "+1 d 3 h"}
    said[-3.0] = "-3 s"  # the server's clock was put back
    assert {seconds: since_start(seconds) for seconds in said} == said
    asked = ask(nobody_told).saga
    with nobody_told.database.transaction() as db:
        db.execute(text("DELETE FROM saga_events"))
        for seconds in said:
            db.execute(LATER, {"id": asked, "seconds": seconds})
    typed = sagajobs("sagas", "show", asked).out.splitlines()
    assert [line.split("  ")[0] for line in typed if "step_probed" in line] == list(said.values())
    assert [event["after"] for event in looking.one_saga(nobody_told, asked)["events"]] == list(said.values())
    exact = sagajobs("sagas", "show", asked, "--json").json["events"]
    assert [event["after"] for event in exact] == list(said)


def test_of_a_step_that_is_undone_no_error_is_told():
    step = {"state": "failed", "error": {"class": "calcom.SlotTaken"}, "undo_error": None}
    assert trouble(step) == "SlotTaken"
    assert trouble({**step, "state": "undone"}) == "-"


def test_when_something_was_needed_is_no_negative_time():
    assert (coming(None), coming(0.0), coming(7200.0), coming(-23.0)) == ("-", "in 0 s", "in 2 h", "23 s ago")


def test_things_in_a_list_are_kept_apart():
    assert pairs({"all": [{"a": 1, "b": None}, {"a": 2}], "none": []}) == "all=[(a=1, b=None), (a=2)], none=[]"
