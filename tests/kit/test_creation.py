"""The creation saga under every check of the testing kit: a booking stands for each that is done, and no other."""

from __future__ import annotations

import pytest

from sagajobs import AppointmentCreationSaga, testing


@pytest.fixture
def case(saga_case, booking, staff, standing, hold_invariants):
    return saga_case(
        AppointmentCreationSaga, request=lambda _n: booking(), standing=standing, invariants=hold_invariants
    )


@pytest.mark.parametrize("check", testing.CHECKS, ids=testing.name)
def test_creation(case, check):
    check(case)
