"""The engine's own tests: the application's engine with two sagas of the tests registered."""

from __future__ import annotations

import pytest

from tests.support.sagas import Pivoting, Scripted, World


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
    return world
