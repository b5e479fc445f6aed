"""What the demonstration counts: it must see what is wrong, which a good run never shows."""

from __future__ import annotations

import pytest
import requests
import sqlalchemy

from sagajobs.cli.demo import tally


@pytest.fixture(scope="module")
def counted(shell, sql):
    """Counts two sagas, completed and compensated, by a ledger that may be falsified."""
    shell.sagajobs("db", "upgrade")
    sql("TRUNCATE sagas, appointments, customers CASCADE")  # the home is every module's
    shell.book("run", 100, 100)
    engine = sqlalchemy.create_engine(shell.postgres)
    with engine.connect() as connection:
        rows = connection.execute(
            sqlalchemy.text("SELECT id::text, state FROM sagas ORDER BY created_at DESC LIMIT 2")
        ).all()
        everything = {saga_id for (saga_id,) in connection.execute(sqlalchemy.text("SELECT id::text FROM sagas"))}
    there = requests.get(f"{shell.simulator}/_simulator/ledger", timeout=60).json()["bookings"]
    assert [row.state for row in rows] == ["compensated", "completed"]
    # The bookings of other modules are there still.
    ledger = [one for one in there if one["metadata"].get("sagajobs_key", "").split("/")[0] in everything]

    def count(ledger, started=()):
        with engine.connect() as connection:
            return tally.count(connection, ledger, {*everything, *started})

    count.ledger = ledger
    count.completed = rows[1].id
    yield count
    engine.dispose()


def test_both_sides_agree(counted):
    found = counted(counted.ledger)
    assert (found.stray, found.missing, found.lost, found.violated, found.in_order) == (0, 0, 0, 0, True)
    assert found.outcomes["manual_review_required"] == 0
    assert found.sagas == sum(found.outcomes.values()) == sum(found.reasons.values())


def test_a_saga_without_its_booking(counted):
    without = [
        one for one in counted.ledger if not one["metadata"].get("sagajobs_key", "").startswith(counted.completed)
    ]
    assert len(without) == len(counted.ledger) - 1
    found = counted(without)
    assert (found.stray, found.missing, found.orphans, found.in_order) == (0, 1, 1, False)


def test_a_saga_whose_booking_was_cancelled(counted):
    cancelled = [
        {**one, "status": "cancelled"} if one["metadata"].get("sagajobs_key", "").startswith(counted.completed) else one
        for one in counted.ledger
    ]
    assert counted(cancelled).missing == 1


def test_a_second_booking_with_our_key(counted):
    (own,) = (one for one in counted.ledger if one["metadata"].get("sagajobs_key", "").startswith(counted.completed))
    for status, stray in (("accepted", 1), ("pending", 1), ("cancelled", 0)):
        found = counted([*counted.ledger, {**own, "uid": "another", "status": status}])
        assert (found.stray, found.in_order) == (stray, not stray)
    somebody_elses = {**own, "uid": "another", "metadata": {}}
    assert counted([*counted.ledger, somebody_elses]).in_order


def test_a_saga_that_is_gone_is_lost(counted):
    found = counted(counted.ledger, ["00000000-0000-0000-0000-000000000000"])
    assert (found.lost, found.in_order) == (1, False)


def test_a_saga_under_way_is_lost_if_it_stays_so(counted, shell, sql):
    ((saga_id, _),) = shell.book("record", 120)
    found = counted(counted.ledger, [saga_id])
    sql("DELETE FROM sagas WHERE id = CAST(:id AS uuid)", id=saga_id)
    assert found.lost == 1
    assert found.outcomes["pending"] == 1
