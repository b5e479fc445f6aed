"""The sync saga, all four operations, under every check of the testing kit: each change is made once, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from sqlalchemy import text

from sagajobs import AppointmentSyncSaga, SagaHandle, testing
from tests.support.syncing import OPERATIONS, assert_in_step, change

EMAIL = text("SELECT c.email FROM customers c JOIN appointments a ON a.customer_id = c.id WHERE a.id = :id")


@pytest.fixture
def changes(app_engine, simulator):
    """What a saga has done at Cal.com to bookings of its customer; once it is done, both sides must tell the same."""

    def see(saga_id: str) -> list[str]:
        handle = SagaHandle(saga_id)
        asked = AppointmentSyncSaga.parse(handle.record().input).root
        if handle.status() == "completed":
            data = asked.data.model_dump()
            assert_in_step(app_engine, simulator, asked.operation, asked.appointment_id, data)
        with app_engine.database.reading() as connection:
            who = connection.execute(EMAIL, {"id": asked.appointment_id}).scalar_one()
        theirs = [booking for booking in simulator.ledger() if booking["attendees"][0]["email"] == who]
        acts = [act["what"] for booking in theirs for act in booking["history"]]
        return [act for act in acts if act != "created" or asked.operation == "create"]

    return see


@pytest.fixture
def case(request, saga_case, planted, unbooked, changes, hold_invariants):
    operation = request.param

    def make(_n: int) -> dict:
        appointment = unbooked() if operation == "create" else planted()
        return {"appointment_id": appointment.id, "operation": operation, "data": change(appointment, operation)}

    return saga_case(AppointmentSyncSaga, request=make, standing=changes, invariants=hold_invariants)


def _cases() -> Iterator:
    """Each operation under each check; one, which does most, is enough to kill workers at in every run of the tests."""
    for operation, check in product(OPERATIONS, testing.CHECKS):
        seldom = check is testing.dies_at_every_point and operation != "reschedule"
        marks = [pytest.mark.siege] if seldom else []
        yield pytest.param(operation, check, id=f"{operation}-{testing.name(check)}", marks=marks)


@pytest.mark.parametrize(("case", "check"), list(_cases()), indirect=["case"])
def test_sync(case, check):
    check(case)
