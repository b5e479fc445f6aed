"""`retry`, `skip`, `abandon` of many cases at once."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from sagajobs.desk.bulk import settle_each
from sagajobs.errors import CaseClosed
from sagajobs.saga.remedies import Remedy
from sagajobs.saga.review import Settled
from tests.cli.inprocess import sagajobs
from tests.support.asked import ask

WHY = ("--who", "Ann", "--why", "Cal.com is back", "--rate", "1000/s")


@pytest.fixture
def cases(nobody_told):
    """Two cases of one cause, the nearer appointment second, and one of another."""
    far = ask(nobody_told, hours=48, ago=7200)
    near = ask(nobody_told, hours=24)
    other = ask(nobody_told, cause="builtins.KeyError", hours=12)
    return far, near, other


def remedies(db) -> list[tuple]:
    rows = db.execute(text("SELECT saga_id, detail FROM saga_events WHERE event = 'review_closed' ORDER BY id"))
    return [(str(row.saga_id), *(row.detail[key] for key in ("remedy", "who", "why"))) for row in rows]


def test_a_dry_run_lists_what_would_be_done_and_does_nothing(cases, db):
    far, near, _ = cases
    plain = sagajobs("sagas", "retry", "--cause", "CalcomUnavailable", "--dry-run")
    assert plain.status == 0, plain.err
    rows = [line.split() for line in plain.out.splitlines()]
    assert [row[1] for row in rows[1:3]] == [near.saga, far.saga]
    assert rows[1][2:5] == ["appointment_creation", "create_customer", "CalcomUnavailable"]
    assert "step create_customer: failed → waiting" in plain.out
    assert "saga: manual_review_required → running" in plain.out
    assert plain.out.endswith("2 cases would be settled by retry, 0 not\n")
    assert plain.err == "the calls that one would lead to: sagajobs explain CASE\n"
    assert "ecret" not in plain.out
    refused = sagajobs("sagas", "skip", "--step", "create_customer", "--dry-run", "--json").json
    assert (refused["would"], len(refused["missed"])) == ([], 3)
    assert "takes no skip" in refused["missed"][0]["why"]
    assert "it takes retry, resolve --undone or abandon" in refused["missed"][0]["why"]
    assert remedies(db) == []


def test_each_is_settled_by_itself_with_its_own_line_of_history(cases, db):
    far, near, other = cases
    # The class says what the call means, the message what went wrong: all three say it.
    done = sagajobs("sagas", "retry", "--cause", "connecttimeout", "--limit", "2", *WHY)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == f"case {other.case} settled by Ann: retry; saga {other.saga} is running"
    assert lines[-1] == "2 cases settled; there are more than --limit, so do it again"
    assert remedies(db) == [(one.saga, "retry", "Ann", "Cal.com is back") for one in (other, near)]
    again = sagajobs("sagas", "retry", "--cause", "ConnectTimeout", *WHY, "--json").json
    assert again == {
        "remedy": "retry",
        "settled": [{"case": far.case, "saga": far.saga, "state": "running"}],
        "missed": [],
        "left": 0,
        "more": False,
    }
    assert sagajobs("sagas", "retry", "--cause", "ConnectTimeout", *WHY).out == "0 cases settled\n"


def test_the_options_choose(cases):
    for options, which in (
        (("--cause", "keyerror"), {2}),
        (("--cause", "builtins.KeyError"), {2}),
        (("--cause", "Key"), set()),
        (("--older-than", "1h"), {0}),
        (("--name", "appointment_creation"), {0, 1, 2}),
        (("--name", "appointment_sync"), set()),
        (("--step", "create_customer", "--cause", "CalcomUnavailable"), {0, 1}),
        (("--step", "book_calcom"), set()),
    ):
        listed = sagajobs("sagas", "review", "--json", *options).json
        assert {case["case"] for case in listed} == {cases[number].case for number in which}, options


def test_a_list_that_is_cut_off_says_so(cases):
    _, near, other = cases
    cut = sagajobs("sagas", "review", "--limit", "2")
    assert [line.split()[0] for line in cut.out.splitlines()[1:]] == [str(other.case), str(near.case)]
    assert "there are more; these 2 come first: see --limit" in cut.err
    assert "there are more" not in sagajobs("sagas", "review", "--limit", "3").err


def test_what_takes_no_such_remedy_does_not_stop_the_rest(cases, nobody_told, db):
    far, near, other = cases
    refused = sagajobs("sagas", "skip", "--cause", "KeyError", *WHY)
    assert refused.status == 6
    assert refused.out.startswith(f"not settled: case {other.case} takes no skip: ")
    assert refused.out.endswith("0 cases settled, 1 not\n")

    steps = settle_each(
        nobody_told,
        nobody_told.review.cases(),
        Remedy.ABANDON,
        who="Ann",
        why="given up",
        per_second=1000,
        stop=threading.Event(),
    )
    assert isinstance(next(steps).came_to, Settled)
    nobody_told.review.retry(near.case, who="Bob", why="was faster")
    lost = next(steps)
    assert lost.case.number == near.case
    assert isinstance(lost.came_to, CaseClosed)
    assert "settled by Bob" in str(lost.came_to)
    assert next(steps).came_to.case == far.case
    assert list(steps) == []
    assert [(saga, who) for saga, _, who, _ in remedies(db)] == [
        (other.saga, "Ann"),
        (near.saga, "Bob"),
        (far.saga, "Ann"),
    ]


def test_no_more_than_the_rate_are_begun_and_none_once_it_is_stopped(cases, nobody_told):
    stop = threading.Event()
    asked = nobody_told.review.cases()
    waited = []
    stop.wait = lambda seconds: waited.append(seconds) or len(waited) > 2
    done = list(settle_each(nobody_told, asked, Remedy.RETRY, who="A", why="b", per_second=0.0001, stop=stop))
    assert [one.case.number for one in done] == [case.number for case in asked[:2]]
    assert waited[0] == 0
    assert 9_000 < waited[1] <= 10_000


def test_what_is_typed_wrong_is_told():
    for argv, told in (
        (("retry", "--why", "x"), "say which case: its ID, or of many --cause"),
        (("retry", "17", "--cause", "X", "--why", "x"), "say either ID, for one case, or --cause"),
        (("retry", "--cause", "X"), "give your reason with --why"),
        (("retry", "--cause", "X", "--dry-run", "--private"), "--private goes with one case"),
        (("retry", "--cause", "X", "--why", "x", "--rate", "fast"), "write 2/s, 30/min or 100/h"),
        (("retry", "--cause", "X", "--why", "x", "--rate", "0/s"), "write 2/s, 30/min or 100/h"),
        (("resolve", "--undone", "--why", "x"), "Missing argument 'ID'"),
    ):
        done = sagajobs("sagas", *argv)
        assert done.status == 2, argv
        assert told in done.err, done.err


def test_an_unfit_reason_is_told_before_the_first_case(cases, db):
    done = sagajobs("sagas", "retry", "--cause", "ConnectTimeout", "--why", " ")
    assert (done.status, done.err) == (1, "Error: why: give the reason, in 1 to 2000 characters\n")
    assert remedies(db) == []
