"""The engine's own tests: the application's engine with two sagas of the tests registered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.support import wide
from tests.support.sagas import Pivoting, Scripted, World
from tests.support.throwaway import PREFIX, Throwaway


@pytest.fixture
def world(app_engine, clean) -> World:
    """The world outside, empty."""
    world = World(app_engine)
    world.create()
    for kind in (Scripted, Pivoting):
        if kind.name in app_engine.kinds:
            kind.services = world
        else:
            app_engine.register(kind, world)
    wide.register(app_engine, world)
    return world


@pytest.fixture
def throwaway(app_engine, world, monkeypatch) -> Iterator[Throwaway]:
    """Sagas of a test's own, carried out by a sweep; nothing of them is left."""
    monkeypatch.setattr(app_engine, "publisher", None)
    yield Throwaway(app_engine)
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM sagas"))
    for name in [name for name in app_engine.kinds if name.startswith(PREFIX)]:
        del app_engine.kinds[name]
