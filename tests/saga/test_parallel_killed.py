"""Workers killed with SIGKILL at every named point of steps that run side by side."""

from __future__ import annotations

from collections import Counter

import pytest

from sagajobs.saga.faultpoints import Point
from tests.support.fixtures import plan_death
from tests.support.fleet import fleet
from tests.support.sagas import record
from tests.support.wide import Wide


@pytest.mark.timeout(240)
@pytest.mark.parametrize("whom", ["child", "worker"])
def test_killed_at_every_point_of_every_one_of_a_stage(workers, world, app_engine, whom):
    """As in the acceptance tests: a child of the pool, or the whole worker, whose messages nobody gives out again."""
    handles, hits = {}, {}
    with fleet(workers) as beat:
        for name in ("book[1]", "beside"):
            for point in Point:
                handles[name, point] = handle = record(Wide, {"items": 2})
                hits[name, point] = plan_death(beat.folder, handle.id, name, point, whom)
                app_engine.hint(Wide, handle.id)
        ends = {where: handle.wait(200) for where, handle in handles.items()}
    assert {where for where, hit in hits.items() if not hit.exists()} == set(), "each aimed at was hit"
    assert {where: end for where, end in ends.items() if end != "completed"} == {}
    for handle in handles.values():
        assert world.acts(handle.id).count("book") == 2
        assert max(Counter(world.local(handle.id)).values()) == 1
