"""Two deployments on one broker: the messages, and the words to all workers, of each reach its own workers only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery

from sagajobs import AppointmentCreationSaga
from sagajobs.celerydefaults import celery_defaults
from sagajobs.root import app, servers, settings
from sagajobs.testing.waiting import wait_for
from tests.support import given
from tests.support.sagas import record

THEIRS = f"{given.PREFIX}another-deployment."


@pytest.fixture
def another() -> Iterator[Celery]:
    """The Celery app of another deployment on the same broker."""
    there = Celery("another", set_as_current=False)
    theirs = settings().model_copy(update={"queue_prefix": THEIRS})
    there.config_from_object(celery_defaults(theirs, servers().broker, []))
    yield there
    given.leave_broker(there, THEIRS)
    there.close()


def test_deployments_with_prefixes_share_a_broker_and_nothing_else(another, workers, booking):
    workers(SAGAJOBS_QUEUE_PREFIX=THEIRS)
    ours = AppointmentCreationSaga.enqueue(booking())
    theirs = record(AppointmentCreationSaga, booking())
    first = "appointment_creation.create_customer"
    another.send_task(first, kwargs={"saga_id": theirs.id}, queue="saga.steps")
    wait_for(lambda: theirs.record().steps["create_customer"].state == "done")
    assert ours.status() == "pending", "its message was there before, and nobody of ours is"

    workers(beat=True)
    assert [ours.wait(90), theirs.wait(90)] == ["completed"] * 2, "both are in one database here, and we have beat"
    mine, others = _nodes(app), _nodes(another)
    assert (len(mine), len(others), mine & others) == (1, 1, set())


def _nodes(deployment: Celery) -> set[str]:
    """Return the workers that answer a deployment's ping."""
    found: set[str] = set()

    def answered() -> bool:
        found.update(node for reply in deployment.control.ping(timeout=1) for node in reply)
        return bool(found)

    wait_for(answered)
    return found
