"""What stands for a saga of bookings, here and at Cal.com, and what must hold of all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from sagajobs.booking import invariants
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.saga import SagaHandle  # not from `sagajobs`, which would read the environment before it is set

LIVE = text("""
    SELECT status, calcom_v2_booking_id AS uid FROM appointments
    WHERE saga_id = CAST(:id AS uuid) AND deleted_at IS NULL
""")


@pytest.fixture
def standing(app_engine, simulator) -> Callable[[str], list[str]]:
    """A saga's live appointments, and bookings that stand under its key. Done, they agree; none is made twice."""

    def see(saga_id: str) -> list[str]:
        with app_engine.database.reading() as connection:
            here = connection.execute(LIVE, {"id": saga_id}).all()
        bookings = simulator.ledger()
        keys = [key for one in bookings if (key := one["metadata"].get(METADATA_KEY, "")).startswith(saga_id)]
        assert len(keys) == len(set(keys)), "booked twice"
        there = [one["uid"] for one in simulator.standing() if one["metadata"].get(METADATA_KEY) in keys]
        if SagaHandle(saga_id).status() == "completed":
            assert {row.status for row in here} == {"scheduled"}
            assert sorted(row.uid for row in here) == sorted(there)
        return [f"appointment of {row.uid}" for row in here] + there

    return see


@pytest.fixture
def hold_invariants(app_engine) -> Callable[[], None]:
    """The three of the bookings."""

    def hold() -> None:
        with app_engine.database.reading() as connection:
            assert [violation.rows for violation in invariants.check(connection)] == [0, 0, 0]

    return hold
