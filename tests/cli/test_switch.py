"""`sagajobs sagas enable` and `disable`."""

from __future__ import annotations

import getpass

import pytest


@pytest.fixture(autouse=True)
def _untouched(shell, sql):
    shell.sagajobs("sagas", "list")
    yield
    sql("DELETE FROM switches")


def test_turned_off_and_on_with_who_and_why(shell, sql):
    off = shell.sagajobs("sagas", "disable", "--who", "night shift", "--why", "Cal.com is moving house")
    assert off.status == 0, off.err
    assert off.out.startswith("saga.enabled is off since ")
    assert off.out.endswith(", turned by night shift: Cal.com is moving house\n")
    on = shell.sagajobs("sagas", "enable", "--why", "it has moved", "--json")
    assert (
        on.json.items()
        >= {
            "switch": "saga.enabled",
            "value": True,
            "who": getpass.getuser(),
            "why": "it has moved",
        }.items()
    )
    (row,) = sql("SELECT * FROM switches")
    assert (row.name, row.value, row.why) == ("saga.enabled", True, "it has moved")


def test_the_settings_show_it_and_by_whom(shell):
    def shown(there=shell):
        rows = there.sagajobs("settings", "--json").json
        return next(row for row in rows if row["variable"] == "SAGAJOBS_SAGA_ENABLED")

    assert shown().items() >= {"value": "True", "source": "default"}.items()
    shell.sagajobs("sagas", "disable", "--who", "night shift", "--why", "Cal.com is moving house")
    assert (
        shown(shell.with_env(SAGAJOBS_SAGA_ENABLED="1")).items()
        >= {
            "value": "False",
            "source": "switch",
            "who": "night shift",
            "why": "Cal.com is moving house",
        }.items()
    )
    assert "switch, by night shift since 2" in shell.sagajobs("settings").out


def test_the_settings_are_shown_without_a_database_too(shell, make_home):
    away = shell.with_env(SAGAJOBS_DATABASE_URL="postgresql://u@127.0.0.1:1/d").sagajobs("settings")
    assert (away.status, away.err.count("\n")) == (0, 1)
    assert away.err.startswith(
        "whether operators have turned SAGAJOBS_SAGA_ENABLED is not known: SAGAJOBS_DATABASE_URL"
    )
    assert "SAGAJOBS_STALL_AFTER" in away.out
    home = make_home()
    assert shell.with_env(SAGAJOBS_HOME=str(home)).sagajobs("settings").err == ""
    assert list(home.iterdir()) == [], "no database was made for the question"


def test_the_reason_is_required(shell, one_line, sql):
    done = shell.sagajobs("sagas", "disable")
    assert (done.status, "--why" in done.err) == (2, True)
    one_line(shell.sagajobs("sagas", "disable", "--why", " "), "why")
    assert sql("SELECT * FROM switches") == []
