"""What tests of the queues share: the broker by hand, and a picture of every row."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator

import pytest
import redis
from sqlalchemy import text

from sagajobs.root import app, servers
from tests.web.conftest import own, serve  # noqa: F401 - fixtures

TASK = "appointment_creation.create_customer"
NOBODY = "00000000-0000-4000-8000-000000000000"


class Queue:
    """The queue of steps, as anybody who can reach the broker may write to it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._name = app.amqp.queues["saga.steps"].name

    def put(self, body: bytes, *, task: object = TASK, content_type: str | None = "application/json", **headers):
        """Put a message as Celery would, but with any content."""
        number = str(uuid.uuid4())
        named = {} if task is None else {"lang": "py", "task": task, "id": number, "root_id": number}
        with app.connection_for_write() as connection:
            channel = connection.default_channel
            message = channel.prepare_message(
                body,
                content_type=content_type,
                content_encoding="utf-8",
                headers=named | headers,
                properties={"correlation_id": number, "reply_to": "", "delivery_mode": 2},
            )
            channel.basic_publish(message, exchange="", routing_key=self._name)

    def call(self, kwargs: object, args: object = (), *, embed: dict | None = None, **options) -> None:
        """Put the call of a task."""
        whole = {"callbacks": None, "errbacks": None, "chain": None, "chord": None} | (embed or {})
        self.put(json.dumps([args, kwargs, whole]).encode(), **options)

    def push(self, value: bytes) -> None:
        """Push bytes past kombu."""
        prefix = app.conf.broker_transport_options["global_keyprefix"]
        self._client.lpush(f"{prefix}{self._name}", value)


@pytest.fixture
def queue(worker) -> Iterator[Queue]:
    url = servers().broker.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
    with redis.Redis.from_url(url, socket_timeout=60) as client:  # tried again, it would push twice
        yield Queue(client)


@pytest.fixture
def rows(db) -> Callable[[], dict]:
    """Take a picture of every table, but for the sweeps' own notes of when they ran."""

    from tests.support.fixtures import TABLES

    def picture() -> dict:
        db.rollback()
        names = [name.strip() for name in TABLES.split(",") if name.strip() != "sweeps"]
        return {
            name: db.execute(text(f"SELECT coalesce(jsonb_agg(t ORDER BY t::text), '[]') FROM {name} t")).scalar_one()
            for name in names
        }

    return picture
