"""The testing kit on sagas with everything that a step may be: optional, skipped, side by side, a pivot, past it."""

from __future__ import annotations

import pytest

from sagajobs import testing
from tests.support.sagas import Pivoting, Scripted
from tests.support.wide import Wide

KINDS = {
    "skipped": (Scripted, {"skip": True}),
    "brought along": (Scripted, {"adopt": True}),
    "pivot": (Pivoting, {}),
    "side by side": (Wide, {"items": 2}),
}
BY_HAND = [check for check in testing.CHECKS if check is not testing.dies_at_every_point]


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def case(request, saga_case, world):
    kind, input_ = request.param

    def standing(saga_id: str) -> list[str]:
        acts = world.acts(saga_id)
        return ["booking"] * (acts.count("book") - acts.count("cancel"))

    return saga_case(kind, request=lambda _n: input_, standing=standing)


SELDOM = testing.every_prefix_ends_well  # at the booking sagas it is in every run of the tests


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=testing.name(check), marks=[pytest.mark.siege] * (check is SELDOM)) for check in BY_HAND],
)
def test_each_check(case, check):
    check(case)
