"""The engine's own tests: the application's engine with two sagas of the tests registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from sagajobs.saga import Database, act, backward, database, declaration, faultpoints
from sagajobs.saga.act import Outcome
from sagajobs.saga.faultpoints import Point
from sagajobs.testing.broker import HandBroker
from tests.support import sagas, versioned, wide
from tests.support.sagas import World
from tests.support.throwaway import PREFIX, Throwaway
from tests.support.wide import Held, Locking, Wide

LONG = 300.0
"""Seconds for which a claim of this process is good, and for which it waits for a connection: what a test does must not
depend on how quick it is."""


@pytest.fixture
def world(app_engine, clean, monkeypatch) -> World:
    """The world outside, empty."""
    for module in (declaration, act, backward):
        monkeypatch.setattr(module, "LEASE_MARGIN", LONG)
    monkeypatch.setattr(database, "CONNECT_WITHIN", int(LONG))
    world = sagas.register(app_engine)
    wide.register(app_engine, world)
    versioned.register(app_engine, world)
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


@pytest.fixture
def _quiet(app_engine, monkeypatch):
    """No worker about: what the sweep sends on is carried out by the test."""
    monkeypatch.setattr(app_engine, "publisher", None)


@pytest.fixture
def at() -> Iterator[Callable[..., None]]:
    """Have something happen, once, when this process comes to a point of a step."""
    plans: dict[tuple[Point, str], Callable[[], None]] = {}

    def hook(point: Point, _saga_id: str, step: str) -> None:
        act = plans.pop((point, step), None)
        if act is not None:
            act()

    def plan(point: Point, step: str, act: Callable[[], None]) -> None:
        plans[point, step] = act

    with faultpoints.installed(hook):
        yield plan
    assert plans == {}, "every planned act came about"


@pytest.fixture
def broker(app_engine, world, monkeypatch) -> HandBroker:
    """Deliver by hand."""
    broker = HandBroker(app_engine)
    monkeypatch.setattr(app_engine, "publisher", broker)
    return broker


@pytest.fixture
def forward(app_engine, world) -> Callable[..., Outcome]:
    """Carry out one delivery of a step, of a `Wide` saga unless told otherwise."""

    def deliver(handle, name: str, kind=Wide, **how) -> Outcome:
        return app_engine.executor.forward(kind, kind.definition.step(name), handle.id, **how)

    return deliver


@pytest.fixture
def held(app_engine, world, monkeypatch) -> Iterator[Held]:
    """What `Locking` sagas note, from nothing."""
    held = Held(app_engine)
    held.create()
    own = Database(world._database._url)  # the world outside takes no connection of the engine's
    monkeypatch.setattr(world, "_database", own)
    yield held
    own.close()


@pytest.fixture
def begin(app_engine, held) -> Callable[..., Outcome]:
    """Carry out one delivery of the first step of a `Locking` saga, which takes its locks."""
    step = Locking.definition.step("begin")
    return lambda handle, **how: app_engine.executor.forward(Locking, step, handle.id, **how)
