"""Workers that vanish whole: no errback, no redelivery; the sweep alone."""

from __future__ import annotations

import pytest

from sagajobs.testing import deaths
from sagajobs.testing.waiting import wait_for
from tests.support.sagas import Pivoting, record

pytestmark = pytest.mark.usefixtures("world")


def test_the_errback_is_lost_and_the_sweep_undoes(workers, world, app_engine):
    """The worker dies whole right after the failing commit: no errback, no redelivery within this test's time."""
    one = workers(concurrency=1)
    handle = record(Pivoting, {"script": {"pivot": ["bug"]}})
    hit = deaths.plan(one.folder, handle.id, "pivot", "after_commit", "worker")
    app_engine.hint(Pivoting, handle.id)
    wait_for(hit.exists)
    assert handle.status() == "compensating"
    workers(concurrency=1, beat=True)
    assert handle.wait(90) == "compensated"
    assert world.local(handle.id) == ["before", "undo_before"]
