"""The composite saga under every check of the testing kit: all segments, or none."""

from __future__ import annotations

import pytest

from sagajobs import CompositeBookingSaga, testing


@pytest.fixture
def case(saga_case, order, staff, standing, hold_invariants):
    def request(_n: int) -> dict:
        return order(2)._asdict()

    return saga_case(CompositeBookingSaga, request=request, standing=standing, invariants=hold_invariants)


@pytest.mark.parametrize("check", testing.CHECKS, ids=testing.name)
def test_composite(case, check):
    check(case)
