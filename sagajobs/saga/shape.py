"""What a saga's class declares: its steps in order, checked when the class is made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from sagajobs.errors import DefinitionError, InvalidInput
from sagajobs.saga.declaration import Method, Step, Undo, base_and_item
from sagajobs.saga.policy import RetryPolicy
from sagajobs.saga.traits import difference, traits

if TYPE_CHECKING:
    from sagajobs.saga.definition import Saga
    from sagajobs.saga.records import SagaRecord

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")

MOST_ITEMS = 100
"""Items for which one step can be done at the same time: each is a message and a row."""

COMPENSATE = "compensate"
"""Name of the task that undoes a saga (`<saga>.compensate`), so no step may have it."""


@dataclass(frozen=True)
class Definition:
    """What the checks found in a saga's class: its steps in order.

    Attributes:
        name: the saga's name, as in the table and in the names of its Celery tasks.
        version: the author's number for it.
        steps: the steps in the order of their declaration.
        traits: what the steps are, as it goes on record with a saga (see `traits`).
    """

    name: str
    version: int
    steps: tuple[Step, ...]
    traits: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the steps, as declared."""
        return tuple(step.name for step in self.steps)

    def step(self, name: str) -> Step:
        """Return the step of that name; raises `DefinitionError` if there is none (another version's message)."""
        base, item = base_and_item(name)
        for step in self.steps:
            if step.name == base and (step.each is None) == (item is None):
                return step if item is None else step.number(item)
        raise DefinitionError(f"saga {self.name} has no step {name!r} in this version of the code")

    def hintable(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the names that this version of the code knows, or else a step that it does.

        Whoever takes a hint at the wrong step finds that record and code differ (`check`), and at last asks a person.
        """
        known = tuple(name for name in names if base_and_item(name)[0] in self.names)
        first = self.steps[0]
        return known or (first.name if first.each is None else first.number(0).name,)

    def expand(self, saga: Saga) -> list[Step]:
        """Return the steps of one saga, those with `each` once for every item.

        Raises:
            InvalidInput: there is no item, or there are more than `MOST_ITEMS`.
        """
        steps: list[Step] = []
        for step in self.steps:
            if step.each is None:
                steps.append(step)
                continue
            count = step.each(saga)
            if not 1 <= count <= MOST_ITEMS:
                raise InvalidInput(f"{self.name}: step {step.name} is for 1 to {MOST_ITEMS} items, not for {count}")
            steps += [step.number(item) for item in range(count)]
        return steps

    def wide(self, stage: int) -> bool:
        """Tell whether several steps may run in that stage at the same time."""
        steps = [step for step in self.steps if step.stage == stage]
        return len(steps) > 1 or any(step.each for step in steps)

    def chain(self, stage: int) -> list[Step]:
        """Return the steps from `stage` on that follow each other one by one, up to where several may run at once."""
        steps: list[Step] = []
        for step in self.steps:
            if step.stage >= stage:
                if self.wide(step.stage):
                    break
                steps.append(step)
        return steps

    def locked_at(self, stage: int) -> str:
        """Return the name of the step of a stage that waits for locks: the first, or one of a saga that lets go."""
        return next((step.name for step in self.steps if step.stage == stage), self.steps[0].name)

    def following(self, record: SagaRecord, stage: int) -> tuple[str, ...]:
        """Return the steps of the stage after `stage`, if several may run there side by side, else none.

        A chain holds one step a stage; where it widens, whoever finishes the stage before publishes each by itself.
        """
        return record.in_stage(stage + 1) if self.wide(stage + 1) else ()

    def check(self, record: SagaRecord) -> None:
        """See that a recorded saga can be finished by these steps; raises `DefinitionError`, saying why, if not."""
        why = difference(record, self.steps)
        if why is not None:
            raise DefinitionError(f"saga {record.id} ({self.name}, version {record.version}): {why}")

    def timed(self, name: str) -> Step | Undo | None:
        """Return the step, as declared, or the undo of that name, None if there is none."""
        timed: dict[str, Step | Undo] = {step.undo.method.__name__: step.undo for step in self.steps if step.undo}
        timed |= {step.name: step for step in self.steps}
        return timed.get(name)


def define(cls: type[Any], *, locking: bool, lets_go: bool) -> Definition:
    """Check a saga's declaration and return its definition.

    Args:
        cls: the saga's class.
        locking: it has `locks`.
        lets_go: it lets go of them while a step waits for its time.

    Raises:
        DefinitionError: it cannot work; one clear line.
    """
    where = f"saga class {cls.__name__}"
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(f"{where}: set `name` to lower-case letters, digits and underscores, 60 at most")
    model = getattr(cls, "Input", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise DefinitionError(f"{where}: set `Input` to the pydantic model of what the saga is asked to do")
    # Of a string each part would be found in it, and its value not be masked.
    if not isinstance(cls.shown, AbstractSet):
        raise DefinitionError(f"{where}: shown is a set of names, not {type(cls.shown).__name__}")
    steps = tuple(value for base in reversed(cls.__mro__) for value in vars(base).values() if isinstance(value, Step))
    if not steps:
        raise DefinitionError(f"{where}: declare at least one step with @step")
    if len({step.name for step in steps}) != len(steps):
        raise DefinitionError(f"{where}: two steps have one name (one of them inherited); rename one")
    _check_names(where, cls, steps)
    pivot_passed = False
    stage = -1
    for step in steps:
        stage += not step.parallel
        step.stage, step.after_pivot = stage, pivot_passed
        _check_step(f"{where}, step {step.name}", step)
        if step.pivot and pivot_passed:
            raise DefinitionError(f"{where}, step {step.name}: a saga has one pivot")
        pivot_passed = pivot_passed or step.pivot
    definition = Definition(name, cls.version, steps, traits(steps))
    _check_stages(where, definition, locking=locking)
    if lets_go:
        _check_letting_go(where, definition)
    return definition


def _check_names(where: str, cls: type[Any], steps: tuple[Step, ...]) -> None:
    """Refuse a step that would stand in the place of something else, such as the `input` of every saga."""
    for step in steps:
        for base in cls.__mro__:
            annotated = step.name in inspect.get_annotations(base)
            if annotated or not isinstance(vars(base).get(step.name, step), Step):
                taken = f"something else of {base.__name__} has it"
                raise DefinitionError(f"{where}, step {step.name}: choose another name: {taken}")


def _check_stages(where: str, definition: Definition, *, locking: bool) -> None:
    first = definition.steps[0]
    if first.parallel:
        raise DefinitionError(f"{where}, step {first.name}: nothing stands before it that it could run beside")
    if locking and (first.external or definition.wide(0)):
        raise DefinitionError(f"{where}: its locks are taken with the first step, which must be local and by itself")
    if locking and (first.optional or first.when):
        raise DefinitionError(f"{where}: its locks are taken with the first step, which must not be left out")
    for step in definition.steps:
        if step.pivot and definition.wide(step.stage):
            raise DefinitionError(f"{where}, step {step.name}: a pivot runs by itself, not in parallel")


def _check_letting_go(where: str, definition: Definition) -> None:
    """Refuse a saga that would let go of its locks with something done, or with a step beside it at work."""
    if not any(step.pivot for step in definition.steps):
        raise DefinitionError(f"{where}: lets_go ends with the pivot; mark the step from which on it keeps its locks")
    for step in definition.steps:
        if not step.after_pivot and (step.undo is not None or definition.wide(step.stage)):
            raise DefinitionError(
                f"{where}, step {step.name}: with lets_go nothing before the pivot has an undo, or runs in parallel"
            )


def _check_step(where: str, step: Step) -> None:
    undo, probe = step.undo, step.finder
    if step.name == COMPENSATE or not _NAME.fullmatch(step.name):
        raise DefinitionError(
            f"{where}: choose another name ({COMPENSATE!r} is the undo's own; lower case, 60 at most)"
        )
    if undo is None and not (step.irreversible or step.optional or step.pivot or step.after_pivot):
        raise DefinitionError(f"{where}: declare its undo with @{step.name}.compensation, or say irreversible=True")
    if undo is not None and step.irreversible:
        raise DefinitionError(f"{where}: it is marked irreversible and has a compensation; drop one of the two")
    if undo is not None and (step.pivot or step.after_pivot):
        raise DefinitionError(f"{where}: it cannot be compensable, as the pivot is passed; move it before the pivot")
    if not step.external and (probe or step.note or step.adopt or step.idempotent or (undo and undo.note)):
        raise DefinitionError(f"{where}: probe, record, adopt and idempotent are for external steps (external=True)")
    if step.external and probe is None and (step.adopt or not step.idempotent):
        raise DefinitionError(
            f"{where}: its outcome can be in doubt; declare a probe with @{step.name}.probe, or say idempotent=True"
        )
    _check_options(where, step)
    _check_methods(where, step)


def _check_options(where: str, step: Step) -> None:
    for timeout in (step.timeout, step.undo.timeout if step.undo else step.timeout):
        _check_timeout(where, timeout)
    for policy in (step.retry, *(part.retry for part in (step.undo, step.finder, step.degraded) if part)):
        if not isinstance(policy, RetryPolicy):
            raise DefinitionError(f"{where}: retry is a RetryPolicy, not {type(policy).__name__}")
    if step.optional and step.degraded:
        raise DefinitionError(f"{where}: an optional step may fail, so it needs no degradation; drop one of the two")
    if step.needed and (step.optional or step.when):
        raise DefinitionError(f"{where}: it may be left out, so that nothing can need its result; drop `needed`")
    if (step.hold or step.turn) and not step.external:
        raise DefinitionError(f"{where}: only what acts outside (external=True) has a reason for hold or turn")


def _check_timeout(where: str, timeout: object) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise DefinitionError(f"{where}: a time-out is a positive number of seconds, not {timeout!r}")


def _check_methods(where: str, step: Step) -> None:
    items = () if step.each is None else ("number",)
    _check_arguments(where, step.method, "key" if step.external else "db", *items)
    _check_arguments(where, step.note, "db", "result", *items)
    _check_arguments(where, step.taker, "reference", *items)
    if step.degraded is not None:
        _check_arguments(where, step.degraded.mark, "db", "error", *items)
    if step.finder is not None:
        _check_arguments(where, step.finder.look, "key", *items)
    if step.undo is not None:
        _check_arguments(where, step.undo.method, "result" if step.external else "db", *items)
        _check_arguments(where, step.undo.note, "db", "receipt", *items)


def _check_arguments(where: str, method: Method | None, *expected: str) -> None:
    """Refuse a method that the engine could not call: found at import, not in the middle of an undo."""
    if method is None:
        return
    try:
        inspect.signature(method).bind(None, *expected)
    except TypeError:
        wanted = ", ".join(("self", *expected))
        raise DefinitionError(f"{where}: {method.__name__} must take ({wanted})") from None
