"""Workers killed with SIGKILL at every named point of steps that run side by side."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial

import pytest

from sagajobs.saga.faultpoints import Point
from sagajobs.testing.fleet import fleet
from tests.support.doomed import Doomed
from tests.support.wide import Wide


@pytest.mark.parametrize("whom", [pytest.param("child", marks=pytest.mark.siege), "worker"])
def test_killed_at_every_point_of_every_one_of_a_stage(workers, world, app_engine, whom):
    with fleet(workers) as beat:
        doomed = Doomed(app_engine, beat, whom)
        for name, point in itertools.product(("book[1]", "beside"), Point):
            doomed.start(partial(Wide.enqueue, {"items": 2}), name, point)
        doomed.assert_all("completed")
    for saga_id in doomed.ids:
        assert world.acts(saga_id).count("book") == 2
        assert max(Counter(world.local(saga_id)).values()) == 1
