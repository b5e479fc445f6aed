"""What stands for a saga of bookings, here and at Cal.com, and what must hold of all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from sagajobs.booking import invariants
from sagajobs.booking.outside import METADATA_KEY


@pytest.fixture
def standing(app_engine, simulator) -> Callable[[str], list[str]]:
    """Bookings that stand under a saga's key, and live appointments of its own."""

    def see(saga_id: str) -> list[str]:
        with app_engine.database.reading() as connection:
            live = connection.execute(
                text("SELECT id FROM appointments WHERE saga_id = CAST(:id AS uuid) AND deleted_at IS NULL"),
                {"id": saga_id},
            ).scalars()
            here = [f"appointment {number}" for number in live]
        there = [booking["metadata"].get(METADATA_KEY, "") for booking in simulator.standing()]
        return here + [key for key in there if key.startswith(saga_id)]

    return see


@pytest.fixture
def hold_invariants(app_engine) -> Callable[[], None]:
    """The three of the bookings."""

    def hold() -> None:
        with app_engine.database.reading() as connection:
            assert [violation.rows for violation in invariants.check(connection)] == [0, 0, 0]

    return hold
