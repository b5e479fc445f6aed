"""Typical mistakes, at each command: one line says what is wrong and what to type, and nothing was done."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs.cli import main
from tests import reference
from tests.cli.inprocess import sagajobs
from tests.support.asked import ask

WHY = ("--why", "to try it")

ARGUMENTS = {
    **dict.fromkeys(["sagas show", "sagas explain"], ("ffffffff",)),
    **dict.fromkeys([f"sagas {act}" for act in ("retry", "skip", "abandon")], ("17", *WHY)),
    **dict.fromkeys([f"sagas {act}" for act in ("pause", "resume", "cancel")], ("ffffffff", *WHY)),
    **dict.fromkeys(["sagas enable", "sagas disable", "events on", "events off", "purge"], WHY),
    **dict.fromkeys(["events subscribe", "events unsubscribe"], ("reports", *WHY)),
    "findings settle": ("17", *WHY),
    "sagas resolve": ("17", "--undone", *WHY),
    "sagas find": ("17",),
    "sagas follow": ("17", *WHY),
    "check": ("--in-flight",),
    "webhooks": ("--port", "0"),
}
"""What is typed behind a command where it asks for something."""

WITHOUT_DATABASE = {
    "sagas graph",  # from the code
    "demo",  # on servers of its own
    "settings",  # are shown all the same (test_switch.py)
    "simulator",
    "completion",
}

BROKER = ("ready", "sweep", "up", "events status", "events subscribe", "events unsubscribe")
"""Commands that are nothing without the broker."""

TYPED = {" ".join(path): (*path, *ARGUMENTS.get(" ".join(path), ())) for path, _ in reference.leaves(main, ())}


def test_every_command_says_in_one_line_that_its_database_or_broker_is_away(shell, one_line):
    secret = {"SAGAJOBS_CALCOM_WEBHOOK_SECRET": "whsec"}
    asked = [argv for name, argv in TYPED.items() if name not in WITHOUT_DATABASE]
    away = shell.with_env(SAGAJOBS_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/d", **secret)
    for done in away.at_once(*asked):
        one_line(done, "Error: SAGAJOBS_DATABASE_URL: 127.0.0.1:1: Connection refused; is it running there?\n")
    away = shell.with_env(SAGAJOBS_BROKER_URL="redis://:hunter2@127.0.0.1:1/0", **secret)
    for done in away.at_once(*(TYPED[name] for name in BROKER)):
        one_line(done, "Error: SAGAJOBS_BROKER_URL: 127.0.0.1:1: Connection refused; is it running there?\n")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("lst",), "No such command 'lst'. Did you mean 'list'?"),
        (("sagas", "invariant"), "No such command 'invariant'. Did you mean 'invariants'?"),
        (("nonsense",), "No such command 'nonsense'."),
        (("list", "--limit", "all"), "Invalid value for '--limit': 'all' is not a valid number of sagas."),
        (("review", "--limit", "0"), "Invalid value for '--limit': 0 is not in the range 1<=x<=10000."),
        (("purge", "--older-than", "3d"), "Invalid value for '--older-than': '3d' is not a valid number of days."),
        (("completion",), "Missing argument 'SHELL'. Choose from bash, zsh, fish"),
        (("pause", "ffffffff", *WHY, "--who", ""), "say who you are with --who: it is empty, or this session's user"),
    ],
)
def test_what_is_typed_wrong_says_what_is_right(typed, said):
    done = sagajobs(*typed)
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith(f"Error: {said}")


def test_a_kind_that_there_is_not_is_said_where_nothing_is_found(nobody_told):
    known = ", ".join(sorted(nobody_told.kinds))  # with those of other tests in this process
    assert "appointment_sync" in known
    for typed in (("list",), ("review",), ("retry", *WHY), ("skip", "--dry-run")):
        done = sagajobs(*typed, "--name", "appointment_creatoin")
        assert (done.status, done.err) == (0, f"no kind of saga is called 'appointment_creatoin'; there are {known}\n")
        assert sagajobs(*typed, "--name", "appointment_creation").err == ""
    ask(nobody_told)
    with nobody_told.database.transaction() as db:
        db.execute(text("UPDATE sagas SET name = 'old_kind'"))
    assert sagajobs("list", "--name", "old_kind").err == "", "there are some, though no code knows them any more"


@pytest.mark.parametrize("option", ["--cause", "--name", "--step"])
def test_what_is_empty_means_no_case_and_not_every_one(nobody_told, option):
    asked = ask(nobody_told)
    for act in ("retry", "skip", "abandon", "review"):
        done = sagajobs(act, option, "", *(WHY if act != "review" else ()))
        assert (done.status, done.out) == (2, "")
        assert done.err.splitlines()[-1] == f"Error: {option} is empty: say which cases are meant, or leave it out"
    assert nobody_told.review.case(asked.case).open
