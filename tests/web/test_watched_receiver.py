"""The receiver is a program of our own: what it starts is traced from there."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, SagaHandle
from sagajobs.testing.waiting import wait_for
from tests.support.collecting import collecting
from tests.web.conftest import SECRET


@pytest.fixture(scope="module")
def collector():
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def watched(serve, collector):
    return serve(
        SAGAJOBS_SENTRY_DSN=collector.sentry_dsn,
        SAGAJOBS_TRACES="on",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=collector.traces_endpoint,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )


def test_a_saga_that_a_webhook_starts_is_traced_from_there(worker, watched, collector, simulator, booking, db):
    simulator.subscribe(watched.url, secret=SECRET)
    made = AppointmentCreationSaga.run(booking())
    simulator.host("cancel", made.calcom_v2_booking_id, reason="ill")
    query = text("SELECT id::text AS id, trace FROM sagas WHERE name = 'appointment_follow'")
    follow = wait_for(lambda: db.execute(query).one_or_none())
    [start] = wait_for(lambda: collector.spans(follow.id))
    assert SagaHandle(follow.id).wait(60) == "completed"
    assert (start.name, start.trace) == ("start appointment_follow", follow.trace.split("-")[1])
