"""Sagas made for one test, and a sweep whose hints are carried out at once, as by a worker that is always there."""

from __future__ import annotations

import itertools
from typing import Any

from pydantic import BaseModel
from sqlalchemy import text

from sagajobs.saga import Saga, SagaHandle
from sagajobs.saga.act import Verdict
from sagajobs.saga.states import UNFINISHED
from sagajobs.saga.sweep import recover
from tests.support.sagas import record

PREFIX = "throwaway"
_number = itertools.count()


class Input(BaseModel):
    word: str = ""
    number: float = 0.0


class Worker:
    """A publisher that carries each hint out at once; what a worker would log is kept in `raised`."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.raised: list[Exception] = []

    def add(self, kind) -> None:
        pass

    def steps(self, kind, saga_id, names) -> None:
        try:
            for name in names:
                first = kind.definition.step(name)
                for step in [first, *kind.definition.chain(first.stage + 1)]:
                    outcome = self.engine.executor.forward(kind, step, saga_id)
                    if outcome.following:
                        self.steps(kind, saga_id, outcome.following)
                    if outcome.verdict is Verdict.FAILED:
                        self.compensation(kind, saga_id)
                    if outcome.verdict is not Verdict.CARRY_ON:
                        break
        except Exception as error:  # noqa: BLE001 - the tests look at it
            self.raised.append(error)

    def wake(self, kind, saga_id, name) -> None:
        self.steps(kind, saga_id, [name])

    def compensation(self, kind, saga_id) -> None:
        try:
            self.engine.executor.compensate(kind, saga_id)
        except Exception as error:  # noqa: BLE001 - the tests look at it
            self.raised.append(error)


def let_time_pass(engine) -> None:
    """Make everything due, as after a long while."""
    with engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET next_at = saga_now() WHERE next_at IS NOT NULL"))
        connection.execute(
            text(
                "UPDATE saga_steps SET lease_until = NULL, due_at = NULL, "
                "absent_since = absent_since - interval '1 minute'"
            )
        )


class Throwaway:
    """Makes sagas of a test's own and has them carried out."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.worker = engine.publisher = Worker(engine)

    def kind(self, **body: Any) -> type[Saga]:
        """Declare and register a saga; `body` is what stands in its class."""
        kind = type(Saga)("Throwaway", (Saga,), {"name": f"{PREFIX}{next(_number)}", "Input": Input, **body})
        self.engine.register(kind)
        return kind

    def record(self, **body: Any) -> SagaHandle:
        return record(self.kind(**body), {})

    def let_time_pass(self) -> None:
        let_time_pass(self.engine)

    def sweep(self, handle: SagaHandle, rounds: int = 30) -> str:
        """Sweep until the saga is at rest, so often at the most; return its state."""
        for _ in range(rounds):
            if handle.status() not in UNFINISHED:
                break
            self.let_time_pass()
            recover(self.engine)
        return str(handle.status())
