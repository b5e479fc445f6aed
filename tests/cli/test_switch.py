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


def test_the_reason_is_required(shell, one_line, sql):
    done = shell.sagajobs("sagas", "disable")
    assert (done.status, "--why" in done.err) == (2, True)
    one_line(shell.sagajobs("sagas", "disable", "--why", " "), "why")
    assert sql("SELECT * FROM switches") == []
