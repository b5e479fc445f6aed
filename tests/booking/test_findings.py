"""What reconciling leaves to a person: each once, what begins next first, until somebody or time has settled it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from sagajobs.booking.findings import (
    MISSING,
    ORPHAN,
    OUT_OF_STEP,
    SETTLED,
    STANDS,
    count_findings,
    findings,
    open_finding,
    settle_finding,
)
from sagajobs.errors import InvalidInput
from tests.support.tables import change

pytestmark = pytest.mark.usefixtures("nobody_at_work", "simulator")

SIGNED = {"who": "Ann", "why": "cancelled there"}


@pytest.fixture
def listed(app_engine):
    def read():
        with app_engine.database.reading() as connection:
            found = findings(connection, 50)
            assert sum(count_findings(connection).values()) == len(found)
        return found

    return read


@pytest.fixture
def orphan(booked_long_ago, reconcile, app_engine):
    """A booking at Cal.com whose appointment is as if it had never been booked; and what reconciles its day."""
    made = booked_long_ago()
    change(
        app_engine,
        "UPDATE appointments SET calcom_v2_booking_id = NULL, status = 'pending', calcom_sync_status = 'pending' "
        "WHERE id = :id",
        id=made.id,
    )
    assert reconcile(made) == 1
    return made


def test_each_is_listed_with_what_to_do_and_settled_by_a_person(orphan, listed, app_engine, simulator, db):
    (one,) = listed()
    assert (one.what, one.about) == (ORPHAN, f"booking {simulator.standing()[0]['id']}")
    assert (one.uid, one.starts_at) == (orphan.calcom_v2_booking_id, orphan.starts_at)
    assert "cancel it there" in one.kind.remedy
    settle_finding(app_engine.database, one.number, **SIGNED)
    assert listed() == []
    row = text("SELECT actor, entity, entity_id, detail FROM audit_log WHERE action = :settled")
    assert db.execute(row, {"settled": SETTLED}).one() == (
        "Ann",
        "calcom_booking",
        one.entity_id,
        {"what": ORPHAN, "why": "cancelled there"},
    )


def test_what_is_found_again_tomorrow_is_open_again_and_once_on_the_list(orphan, listed, app_engine, reconcile):
    def tomorrow() -> None:
        change(app_engine, "UPDATE audit_log SET at = at - interval '25 h'")
        assert reconcile(orphan) == 1

    (first,) = listed()
    tomorrow()
    (second,) = listed()
    assert second.number > first.number
    with pytest.raises(InvalidInput, match=rf"there is no open finding {first.number}; `sagajobs findings list`"):
        settle_finding(app_engine.database, first.number, **SIGNED)
    settle_finding(app_engine.database, second.number, **SIGNED)
    assert reconcile(orphan) == 0
    assert listed() == []
    tomorrow()
    assert len(listed()) == 1


def test_what_is_so_no_more_goes_by_itself(orphan, listed, app_engine):
    change(app_engine, "UPDATE audit_log SET at = at - make_interval(hours => :hours)", hours=STANDS - 1)
    assert len(listed()) == 1
    change(app_engine, "UPDATE audit_log SET at = at - interval '2 h'")
    assert listed() == []


def test_an_appointment_of_each_kind_what_begins_next_first(booked_long_ago, reconcile, listed, app_engine, simulator):
    lost, given_up = booked_long_ago(), booked_long_ago()
    sooner = "starts_at = starts_at - interval '1 d', ends_at = ends_at - interval '1 d'"
    change(app_engine, f"UPDATE appointments SET {sooner} WHERE id = :id", id=given_up.id)
    for made, action in ((lost, MISSING), (given_up, OUT_OF_STEP)):
        change(
            app_engine,
            "INSERT INTO audit_log (actor, action, entity, entity_id, detail) "
            "VALUES ('sagajobs', :action, 'appointment', :id, '{}')",
            action=action,
            id=made.id,
        )
    assert [(one.what, one.about) for one in listed()] == [
        (OUT_OF_STEP, f"appointment {given_up.id}"),
        (MISSING, f"appointment {lost.id}"),
    ]
    settle_finding(app_engine.database, listed()[0].number, **SIGNED)
    assert [one.what for one in listed()] == [MISSING]


def test_of_two_who_settle_it_at_once_one_is_told_who_did(orphan, listed, app_engine):
    (one,) = listed()

    def settle(who: str) -> str:
        try:
            settle_finding(app_engine.database, one.number, who=who, why="seen to")
        except InvalidInput as error:
            return str(error)
        return "won"

    with ThreadPoolExecutor(2) as threads:
        outcomes = dict(zip(("Ann", "Bob"), threads.map(settle, ("Ann", "Bob")), strict=True))
    (winner,) = (who for who, outcome in outcomes.items() if outcome == "won")
    (told,) = (outcome for outcome in outcomes.values() if outcome != "won")
    assert told.startswith(f"finding {one.number} was settled by {winner} at ")


@pytest.mark.parametrize("signature", [{"who": "", "why": "x"}, {"who": "Ann", "why": " "}])
def test_who_and_why_are_asked_for(orphan, listed, app_engine, signature):
    (one,) = listed()
    with pytest.raises(InvalidInput, match=r"^(who|why): "):
        settle_finding(app_engine.database, one.number, **signature)
    assert listed() == [one]


def test_another_row_of_the_audit_log_is_no_finding(orphan, listed, app_engine, db):
    (one,) = listed()
    settle_finding(app_engine.database, one.number, **SIGNED)
    with app_engine.database.reading() as connection:
        for number in (*db.execute(text("SELECT id FROM audit_log")).scalars(), 2**40):
            with pytest.raises(InvalidInput, match="finding"):
                open_finding(connection, number)
