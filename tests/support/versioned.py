"""A saga in two versions, for workers that know both: the former one has a step that the present one lacks."""

from __future__ import annotations

from pydantic import BaseModel

from sagajobs.saga import Saga, step
from tests.support.sagas import QUICK


class Parts(BaseModel):
    count: int = 2


class _Parted(Saga, abstract=True):
    name = "versioned"
    Input = Parts

    @step(irreversible=True, retry=QUICK)
    def begin(self, db) -> int:
        return self.version

    @step(external=True, irreversible=True, idempotent=True, retry=QUICK, each=lambda saga: saga.input.count)
    def part(self, key: str, number: int) -> int:
        self.services.act(key, "book")
        return self.version


class Former(_Parted):
    """Begins, makes its parts side by side, closes."""

    @step(irreversible=True, retry=QUICK)
    def close(self, db) -> int:
        return self.version


class Present(_Parted):
    """Has another end."""

    version = 2

    @step(irreversible=True, retry=QUICK)
    def finish(self, db) -> int:
        return self.version


def register(engine, world) -> None:
    if Present.name in engine.kinds:
        Present.services = Former.services = world
    else:
        engine.register(Present, world, former=[Former])
