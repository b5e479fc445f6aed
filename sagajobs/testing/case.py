"""A case: what the checks need to know of a saga, and what an undisturbed one comes to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sagajobs.saga import Engine, Saga, SagaHandle, SagaState
from sagajobs.saga.declaration import Step
from sagajobs.saga.faultpoints import Work
from sagajobs.testing.clock import Clock
from sagajobs.testing.trial import Trial
from sagajobs.testing.verdict import CheckFailed, Verdict
from sagajobs.testing.worker import Worker


@dataclass(frozen=True)
class Usual:
    """What an undisturbed saga of a case comes to.

    Attributes:
        steps: names of the steps that were carried out, in order, `book[0]` and `book[1]` by themselves.
        standing: how much stands outside.
        next_to: by name of a step, the first step of the stage after it, if there is one.
    """

    steps: tuple[str, ...]
    standing: int
    next_to: Mapping[str, str]


@dataclass(kw_only=True)
class Case:
    """What the checks need to know of a saga; made by the fixture `saga_case`.

    Attributes:
        kind: the saga's class, registered with the engine when its module is imported.
        request: makes the n-th input, different from all others; it may first make what that is about.
        standing: what stands outside for a saga, by its id: nothing once it is undone, and once it is done as much as
            after an undisturbed one. By default nothing is looked at.
        invariants: raises if something does not hold that must hold whenever no saga is under way.
        engine, clock, workers: what carries sagas out, and what moves time; from the other fixtures.
    """

    kind: type[Saga]
    request: Callable[[int], Mapping[str, Any]]
    standing: Callable[[str], Sequence[Any]]
    invariants: Callable[[], None]
    engine: Engine
    clock: Clock
    workers: Callable[..., Worker]
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False)

    def step(self, name: str) -> Step:
        """Return a step by its name."""
        return self.kind.definition.step(name)

    def next_request(self) -> Mapping[str, Any]:
        """Return an input that no saga was started with."""
        return self.request(next(self._numbers))

    @contextmanager
    def trial(self, place: str) -> Iterator[Trial]:
        """Start a saga and carry it out by hand; nothing of it is left in the engine's tables.

        Args:
            place: what is tried, for the message of a failure.
        """
        trial = Trial(self.engine, self.clock, self.kind)
        with trial.installed():
            trial.start(self.next_request())
            try:
                yield trial
            except CheckFailed:
                raise
            except Exception as error:
                raise self.verdict(trial.handle, place).failure(f"{type(error).__name__}: {error}") from error
            finally:
                self.forget([trial.handle])

    def verdict(self, handle: SagaHandle, place: str) -> Verdict:
        """Return what judges a saga that was tried at a place."""
        return Verdict(handle, self.kind, place, standing=self.standing, invariants=self.invariants)

    def forget(self, handles: Sequence[SagaHandle]) -> None:
        """Remove sagas with all that the engine knows of them."""
        with self.engine.database.transaction() as connection:
            connection.exec_driver_sql(
                "DELETE FROM sagas WHERE id = ANY(%(ids)s::uuid[])", {"ids": [handle.id for handle in handles]}
            )

    @cached_property
    def usual(self) -> Usual:
        """What an undisturbed saga comes to; raises `AssertionError` if it is not completed."""
        with self.trial("undisturbed") as trial:
            trial.settle()
            self.verdict(trial.handle, "undisturbed").assert_end(SagaState.COMPLETED)
            steps = tuple(dict.fromkeys(name for what, name in trial.worked if what is Work.STEP))
            record = trial.handle.record()
            following = {name: record.in_stage(step.stage + 1)[:1] for name, step in record.steps.items()}
            return Usual(
                steps,
                len(self.standing(trial.handle.id)),
                {name: after[0] for name, after in following.items() if after},
            )

    @cached_property
    def undone(self) -> tuple[str, ...]:
        """Names of the steps whose undo can be seen at work: it has one, and the saga can turn round after it."""
        names = [name for name in self.usual.steps if self.can_turn_after(name)]
        return tuple(name for name in names if self._undoes(name))

    def can_turn_after(self, name: str) -> bool:
        """Tell whether a saga can be cancelled when a step with an undo is done.

        In the call of an external one; before the step that follows a local one, as what is cancelled while a local
        step is at work is rolled back.
        """
        step = self.step(name)
        return step.undo is not None and (step.external or name in self.usual.next_to)

    def _undoes(self, name: str) -> bool:
        place = f"cancelled after {name}"
        with self.trial(place) as trial:
            trial.turn_round_after(name)
            trial.settle()
            verdict = self.verdict(trial.handle, place)
            verdict.assert_end(SagaState.COMPENSATED)
            worked = (Work.UNDO, name) in trial.worked
            undo = self.step(name).undo
            if not worked and (undo is None or undo.when is None):
                raise verdict.failure(f"{name} was not undone")
            return worked
