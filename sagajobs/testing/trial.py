"""One saga carried out by hand: its messages delivered as a check wishes, its own code stood in for, time moved on."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from sagajobs.saga import Engine, Saga, SagaHandle, control, faultpoints
from sagajobs.saga.faultpoints import Point, Work
from sagajobs.saga.states import UNFINISHED
from sagajobs.saga.sweep import recover
from sagajobs.testing.broker import HandBroker, Killed
from sagajobs.testing.clock import Clock

ROUNDS = 300
"""Sweeps after which a saga must be at rest: more than all attempts, looks and undos of a step."""

TELLING = (Point.AFTER_CLAIM, Point.AFTER_CALL, Point.AFTER_COMMIT)
"""Points between any two of which nothing becomes true, in the tables or outside."""

SIGNED = {"who": "testing kit", "why": "to see what becomes of it"}

_DUE_IN = text("""
    SELECT extract(epoch FROM next_at - saga_now())::float FROM sagas WHERE id = CAST(:id AS uuid)
""")

Disturbance = Callable[[Callable[[], Any]], Any]


class Trial:
    """A saga, and what is done to it.

    Args:
        engine: that it runs on.
        clock: moved to when something is due.
        kind: the saga's class.

    Attributes:
        worked: what of the author's code was called, as (step, undo or probe; name of the step), in order.
        broker: with the messages about it.
        hit: how often what was planned came about.
        cut: where the history was cut, `after_call of book`; empty if it was not.
    """

    handle: SagaHandle

    def __init__(self, engine: Engine, clock: Clock, kind: type[Saga]) -> None:
        self._engine = engine
        self._clock = clock
        self._kind = kind
        self._disturbances: dict[tuple[Work, str], Disturbance] = {}
        self._turns_after = sys.maxsize
        self.worked: list[tuple[Work, str]] = []
        self.broker = HandBroker(engine)
        self.hit = 0
        self.cut = ""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have the engine's hints come here, and its calls of the author's code."""
        publisher, self._engine.publisher = self._engine.publisher, self.broker
        faultpoints.stand_in(self._stand_in)
        try:
            yield
        finally:
            faultpoints.stand_in(None)
            faultpoints.install(None)
            self._engine.publisher = publisher
            self._clock.put_right()

    def start(self, request: Mapping[str, Any]) -> None:
        """Start the saga."""
        self.handle = self._engine.enqueue(self._kind, request)

    # --- what happens to it ---

    def refuse(self, what: Work, name: str, error: Exception) -> None:
        """Raise `error` in place of what an author's code would do, each time until `heal`."""

        def instead(_act: Callable[[], Any]) -> Any:
            self.hit += 1
            raise error

        self._disturbances[what, name] = instead

    def done_and_then(self, what: Work, name: str, error: BaseException) -> None:
        """Let the author's code do what it does and, the first time, raise `error` in place of what it returns."""

        def instead(act: Callable[[], Any]) -> Any:
            returned = act()
            if not self.hit:
                self.hit += 1
                raise error
            return returned

        self._disturbances[what, name] = instead

    def dies_after(self, what: Work, name: str) -> None:
        """Kill the worker, once, when the author's code has done what it does and nothing of that is on record."""
        self.done_and_then(what, name, Killed())

    def cut_at(self, number: int) -> None:
        """Have the worker die at the n-th of all points at which something may have become true, here or outside."""
        passed = itertools.count(1)

        def hook(point: Point, saga_id: str, step: str) -> None:
            if saga_id == self.handle.id and point in TELLING and next(passed) == number:
                faultpoints.install(None)
                self.cut = f"{point} of {step}"
                raise Killed

        faultpoints.install(hook)

    def heal(self) -> None:
        """Let everything work again."""
        self._disturbances.clear()

    def turn_round_after(self, name: str) -> None:
        """Have an operator cancel the saga when a step is done (`Case.can_turn_after`)."""
        step = self._kind.definition.step(name)
        if not step.external:
            self._turns_after = step.stage
            return

        def instead(act: Callable[[], Any]) -> Any:
            returned = act()
            del self._disturbances[Work.STEP, name]
            control.cancel(self._engine, self.handle.id, **SIGNED)
            return returned

        self._disturbances[Work.STEP, name] = instead

    def _stand_in(self, what: Work, saga_id: str, name: str, act: Callable[[], Any]) -> Any:
        if saga_id != self.handle.id:
            return act()
        self.worked.append((what, name))
        disturbance = self._disturbances.get((what, name))
        return act() if disturbance is None else disturbance(act)

    # --- carrying it out ---

    def deliver(self) -> None:
        """Give the oldest message to a worker."""
        step = self.broker.messages[0].step
        if step is not None and self._kind.definition.step(step).stage > self._turns_after:
            self._turns_after = sys.maxsize
            control.cancel(self._engine, self.handle.id, **SIGNED)
        self.broker.deliver(0)

    def deliver_twice(self) -> None:
        """Deliver everything, and what comes of it, each message two times in a row."""
        for _ in range(ROUNDS):
            if not self.broker.messages:
                return
            message = self.broker.messages[0]
            self.deliver()
            self.broker.messages.insert(0, message)
            self.deliver()
        raise AssertionError(f"{ROUNDS} messages, and no end")

    def deliver_until_cut(self) -> None:
        """Deliver everything, and what comes of it, until the history is cut: all that is under way is lost then."""
        before = self.cut
        for _ in range(ROUNDS):
            if self.cut != before:
                self.broker.messages.clear()
            if not self.broker.messages:
                return
            self.deliver()
        raise AssertionError(f"{ROUNDS} messages, and no end")

    def deliver_and_lose_what_follows(self) -> None:
        """Deliver what is there, and nothing that comes of it."""
        for _ in range(len(self.broker.messages)):
            self.deliver()
        self.broker.messages.clear()

    def settle(self, deliver: Callable[[], None] | None = None) -> None:
        """Carry the saga on to where it rests, moving time on to when something is due.

        Args:
            deliver: what becomes of the messages at hand; by default each is delivered, and what comes of it.
        """
        for _ in range(ROUNDS):
            (deliver or self.drain)()
            if self.handle.status() not in UNFINISHED:
                return
            self._leap()
            recover(self._engine)
        raise AssertionError(f"after {ROUNDS} sweeps it is still {self.handle.status()}")

    def drain(self) -> None:
        """Deliver everything, and what comes of it."""
        for _ in range(ROUNDS):
            if not self.broker.messages:
                return
            self.deliver()
        raise AssertionError(f"{ROUNDS} messages, and no end")

    def _leap(self) -> None:
        with self._engine.database.reading() as connection:
            due_in = connection.execute(_DUE_IN, {"id": self.handle.id}).scalar_one()
        if due_in is not None and due_in > 0:
            self._clock.leap(due_in + 0.001)
