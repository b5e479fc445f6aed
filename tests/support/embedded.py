"""Embedded servers as their clients see them."""

from __future__ import annotations

import redis
from sqlalchemy import NullPool, create_engine, text


def query(url, statement, **values):
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(statement), values)
        return result.scalar() if result.returns_rows else None


def answers(url):
    try:
        with redis.Redis.from_url(url, socket_timeout=60) as client:
            return client.ping()
    except redis.exceptions.ConnectionError:
        return False
