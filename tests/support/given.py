"""Servers given by URL, and what each process of the suite has of its own on them: nothing is shared but the server.

`pytest -n` runs several such processes, and others may be running the suite against the same servers.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit, urlunsplit

import redis
from kombu import Exchange
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

DATABASE = f"sagajobs_test_{os.getpid()}"
PREFIX = f"sagajobs-test-{os.getpid()}."
"""Of the names of queues and exchanges: RabbitMQ has no numbered databases, and making a vhost takes its manager."""


def _server(url: str) -> URL:
    return make_url(url).set(drivername="postgresql+psycopg2")


def _execute(url: str, statement: str) -> None:
    engine = create_engine(_server(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def own_database(url: str) -> str:
    """Make a database on the server, and return its URL."""
    _execute(url, f"CREATE DATABASE {DATABASE}")
    return _server(url).set(database=DATABASE).render_as_string(hide_password=False)


def drop_database(url: str) -> None:
    _execute(url, f"DROP DATABASE {DATABASE} WITH (FORCE)")


def own_number(url: str) -> str:
    """Return the URL of the n-th Redis database from the given one on, for the n-th process; RabbitMQ's as it is.

    A prefix would not do: a test wipes its broker, and another one listens to all that is published there.
    """
    parts = urlsplit(url)
    if parts.scheme.startswith("amqp"):
        return url
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return urlunsplit(parts._replace(path=f"/{int(parts.path.strip('/') or 0) + process}"))


def leave_broker(app, prefix: str = PREFIX) -> None:
    """Take away what an app and its workers have made on the broker: nobody else would, as queues are durable.

    What Celery calls `celery_delayed_…` stays: it is one set for all who use the virtual host.
    """
    url = app.conf.broker_url
    if not url.startswith("amqp"):
        url = url.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
        with redis.Redis.from_url(url, socket_timeout=60) as client:
            for key in client.scan_iter(f"{prefix}*"):
                client.delete(key)
        return
    mailbox = app.control.mailbox
    exchanges = [queue.exchange for queue in app.amqp.queues.values()]
    exchanges += [mailbox.exchange, mailbox.reply_exchange, Exchange(app.conf.event_exchange)]
    with app.connection_for_write() as connection:
        for queue in app.amqp.queues.values():
            queue(connection.default_channel).delete()
        for name in {exchange.name for exchange in exchanges}:
            Exchange(name, channel=connection.default_channel).delete()
