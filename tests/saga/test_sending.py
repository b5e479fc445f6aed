"""How long somebody waits who sends to a broker that has fallen silent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from sagajobs.celerydefaults import celery_defaults
from sagajobs.root import app, settings
from sagajobs.runtime.urls import as_broker
from sagajobs.saga.canvas import SagaTask
from sagajobs.saga.sending import Sending
from sagajobs.testing.waiting import wait_for
from tests.support.ownredis import OwnRedis

LONG = 20
"""Seconds that nobody waits: on a connection like a worker's it would be 40."""


def test_a_redis_that_falls_silent_holds_nobody(tmp_path):
    """As one does whose machine is cut off: connections stay, and no answer comes."""
    assert type(app.amqp) is Sending
    with OwnRedis(tmp_path) as broker, closing(Celery(amqp=type(app.amqp), set_as_current=False)) as silent:
        silent.conf.update(celery_defaults(settings(), as_broker(broker.url), ()))

        @silent.task(name="scripted.first", base=SagaTask, shared=False)
        def first() -> None:
            """Never run."""

        def send() -> None:
            first.apply_async(queue=silent.amqp.queues["saga.steps"])

        send()
        broker.freeze()
        with ThreadPoolExecutor(1) as thread:
            sent = thread.submit(send)
            try:
                wait_for(sent.done, LONG, "an answer")
                with pytest.raises(OperationalError):
                    sent.result()
            finally:
                broker.thaw()
        send()
