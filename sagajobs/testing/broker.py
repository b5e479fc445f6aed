"""A broker and its workers for tests that decide themselves what is delivered, when, how often, and who dies at it.

It carries the same hints as Celery does, one after the other and in this process: a message may be lost, doubled, or
take its worker along at any fault point and be given out again. Database and Cal.com's simulator are the real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sagajobs.errors import SagaNotFound
from sagajobs.saga import Engine, Saga, faultpoints
from sagajobs.saga.act import Verdict

MOST_MESSAGES = 500
"""Deliveries until a test that waits for quiet gives up: a storm is a failure, too."""


class Killed(BaseException):
    """The worker is gone: no handler of the engine may catch it."""


@dataclass(frozen=True)
class Message:
    """A hint: at a step of a saga or, without a step, at its undo."""

    kind: type[Saga]
    saga_id: str
    step: str | None
    redelivered: bool = False


class HandBroker:
    """An engine's publisher that keeps what it is given until it is told what becomes of it.

    Args:
        engine: whose hints it carries, as its `publisher`.

    Attributes:
        messages: what is under way, the oldest first.
        delivered: what was given to a worker, in order.
        deaths: how many workers died at it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.messages: list[Message] = []
        self.delivered: list[Message] = []
        self.deaths = 0
        self.strays = 0
        self._doom: tuple[faultpoints.Point | None, int] = (None, 0)

    # --- what the engine publishes through ---

    def add(self, kind: type[Saga]) -> None:
        """Nothing has to be got ready."""

    def steps(self, kind: type[Saga], saga_id: str, names: Sequence[str]) -> None:
        """Keep a message for each step."""
        self.messages += [Message(kind, saga_id, name) for name in names]

    def wake(self, kind: type[Saga], saga_id: str, name: str) -> None:
        """Keep a message, with the others."""
        self.steps(kind, saga_id, [name])

    def compensation(self, kind: type[Saga], saga_id: str) -> None:
        """Keep a message for the undo."""
        self.messages.append(Message(kind, saga_id, None))

    # --- what a test does with it ---

    def deliver(self, index: int, *, dies_at: faultpoints.Point | None = None) -> None:
        """Give a message to a worker, who may die at a fault point; it is then given out again."""
        message = self.messages.pop(index)
        self.delivered.append(message)
        doom, left = self._doom
        with _dying(dies_at or (doom if left else None)):
            try:
                self._work(message)
            except Killed:
                self.deaths += 1
                if dies_at is None:
                    self._doom = (doom, left - 1)
                self.messages.append(replace(message, redelivered=True))

    def doom(self, point: faultpoints.Point, times: int) -> None:
        """Have so many of the workers that come to a fault point from now on die there."""
        self._doom = (point, times)

    def lose(self, index: int) -> None:
        """Give a message to nobody."""
        self.messages.pop(index)

    def double(self, index: int) -> None:
        """Have a message come a second time, after all others."""
        self.messages.append(self.messages[index])

    def drain(self, most: int = MOST_MESSAGES) -> int:
        """Deliver everything, and what comes of it; return how many messages that were."""
        delivered = 0
        while self.messages:
            if delivered >= most:
                raise AssertionError(f"{most} messages, and no end")
            self.deliver(0)
            delivered += 1
        return delivered

    def _work(self, message: Message) -> None:
        try:
            self._carry_out(message)
        except SagaNotFound:  # purged while the message was on its way
            self.strays += 1
            self.fail(message)

    def fail(self, message: Message) -> None:
        """Do as Celery does when a task fails: call its errback, which a compensation has none of."""
        if message.step is not None:
            self.compensation(message.kind, message.saga_id)

    def _carry_out(self, message: Message) -> None:
        kind, saga_id = message.kind, message.saga_id
        if message.step is None:
            self.engine.executor.compensate(kind, saga_id)
            return
        step = kind.definition.step(message.step)
        outcome = self.engine.executor.forward(kind, step, saga_id, redelivered=message.redelivered)
        faultpoints.reached(faultpoints.Point.BEFORE_NEXT_MESSAGE, saga_id, step.name)
        self.steps(kind, saga_id, outcome.following)
        if outcome.verdict is Verdict.CARRY_ON:
            self.steps(kind, saga_id, [one.name for one in kind.definition.chain(step.stage + 1)[:1]])
        elif outcome.verdict is Verdict.FAILED:
            self.compensation(kind, saga_id)
        faultpoints.reached(faultpoints.Point.BEFORE_ACK, saga_id, step.name)


class _dying:  # noqa: N801 - reads as what it does
    """Kill whoever comes to `point` first, once."""

    def __init__(self, point: faultpoints.Point | None) -> None:
        self._point = point

    def _hook(self, point: faultpoints.Point, _saga_id: str, _step: str) -> None:
        if point is self._point:
            faultpoints.install(None)
            raise Killed

    def __enter__(self) -> None:
        if self._point is not None:
            faultpoints.install(self._hook)

    def __exit__(self, *_: object) -> None:
        if self._point is not None:
            faultpoints.install(None)
