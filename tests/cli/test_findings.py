"""`sagajobs findings`: what reconciling leaves to a person, listed and settled."""

from __future__ import annotations

import pytest

from tests.cli.inprocess import sagajobs
from tests.support.asked import left_to_a_person


@pytest.fixture
def found(app_engine, clean):
    left_to_a_person(app_engine)
    (one,) = sagajobs("findings", "list", "--json").json
    return one


def test_what_is_left_to_a_person_is_listed_and_settled(found, one_line):
    assert found.items() >= {"what": "orphan", "entity": "calcom_booking", "entity_id": 17, "uid": "u17"}.items()
    number = str(found["number"])
    listed = sagajobs("findings", "list").out
    assert listed.splitlines()[1].split()[:4] == [number, "booking", "17", "2040-05-01"]
    assert listed.endswith("see at Cal.com whether somebody expects it, and cancel it there, or leave it\n")
    health = sagajobs("health").out
    assert "left to a person: 1 booking at Cal.com that no appointment has" in health
    assert sagajobs("health", "--json").json["findings"] == {"orphan": 1, "missing": 0, "out_of_step": 0}

    settle = ("findings", "settle", number, "--who", "Ann", "--why", "cancelled there")
    assert sagajobs(*settle).out == f"finding {number} (booking 17) is settled\n"
    one_line(sagajobs(*settle), f"finding {number} was settled by Ann at ")
    assert sagajobs("findings", "list").out == "reconciling has left nothing to a person\n"
    assert "nothing" in sagajobs("health").out.partition("left to a person")[2].splitlines()[0]


def test_settled_it_is_told_as_json_too(found):
    number = str(found["number"])
    told = sagajobs("findings", "settle", number, "--who", "Ann", "--why", "gone", "--json").json
    assert told == found | {"who": "Ann", "why": "gone"}


def test_one_that_there_is_not(clean, one_line):
    one_line(sagajobs("findings", "settle", "4711", "--who", "A", "--why", "b"), "there is no open finding 4711; ")
