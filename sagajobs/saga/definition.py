"""`Saga`: the class from which every saga derives, and the checks made when it is declared."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from sagajobs.errors import DefinitionError, InvalidInput
from sagajobs.saga.declaration import Method, Step, Undo

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine
    from sagajobs.saga.handle import SagaHandle
    from sagajobs.saga.records import SagaRecord

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
PATIENCE = 60.0
"""Seconds for which `run` waits for retries before it leaves the saga to the workers."""

COMPENSATE = "compensate"
"""Name of the task that undoes a saga (`<saga>.compensate`), so no step may have it."""


class _Namespace(dict[str, Any]):
    """A class body that notices a step overwritten by a later attribute of the same name."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(self.get(key), Step):
            raise DefinitionError(f"two things are called {key!r} in one saga: give each step a name of its own")
        super().__setitem__(key, value)


class _SagaType(type):
    @classmethod
    def __prepare__(cls, _name: str, _bases: tuple[type, ...], /, **_kwds: Any) -> _Namespace:
        return _Namespace()


@dataclass(frozen=True)
class Definition:
    """What the checks found in a saga's class: its steps in order.

    Attributes:
        name: the saga's name, as in the table and in the names of its Celery tasks.
        version: the author's number for it.
        steps: the steps in the order of their declaration.
        digest: hash of everything that a recorded saga depends on.
    """

    name: str
    version: int
    steps: tuple[Step, ...]
    digest: str

    def step(self, name: str) -> Step:
        """Return the step of that name; raises `DefinitionError` if there is none (another version's message)."""
        for step in self.steps:
            if step.name == name:
                return step
        raise DefinitionError(f"saga {self.name} has no step {name!r} in this version of the code")

    def check(self, record: SagaRecord) -> None:
        """See that a recorded saga has this definition's steps; raises `DefinitionError` if not.

        Going on by another version's steps could leave one out, and `compensated` would be said of a saga whose
        vanished step still stands.
        """
        recorded, known = tuple(record.steps), tuple(step.name for step in self.steps)
        if recorded != known:
            raise DefinitionError(
                f"saga {record.id} was recorded with the steps {', '.join(recorded)}; "
                f"{self.name} has {', '.join(known)} in this version of the code"
            )

    def timed(self, name: str) -> Step | Undo:
        """Return the step or the undo of that name; raises `DefinitionError` if there is none."""
        undos: dict[str, Undo] = {step.undo.method.__name__: step.undo for step in self.steps if step.undo}
        return undos[name] if name in undos else self.step(name)

    def at_stage(self, stage: int) -> Step | None:
        """Return the step that runs in that stage, None past the last one."""
        return self.steps[stage] if stage < len(self.steps) else None


class Saga(metaclass=_SagaType):
    """A series of steps, each with a way to undo it: all of it happens, or none.

    Subclass it, set `name` and `Input`, and declare the steps in order with `@step`. An instance stands for one saga
    of that kind while one of its methods runs.

    Attributes:
        name: of the kind of saga; part of the table's key and of the task names, so it must not change.
        version: raise it when you change the steps.
        Input: the pydantic model of what the saga is asked to do.
        definition: what the checks found.
        engine: the engine it is registered with.
        services: what the application hands to its sagas (clients and the like), as given to `Engine.register`.
        id: of this saga.
        input: what this saga was asked to do.
        results: what the steps done so far returned, by step name.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Input: ClassVar[type[BaseModel]]
    definition: ClassVar[Definition]
    engine: ClassVar[Engine]
    services: ClassVar[Any] = None

    id: str
    input: Any
    results: Mapping[str, Any]

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not abstract:
            cls.definition = _define(cls)

    def __init__(self, saga_id: str, input_: Any, results: Mapping[str, Any]) -> None:
        self.id = saga_id
        self.input = input_
        self.results = results

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    # --- what an author may override ---

    def check(self, db: Session) -> None:
        """Refuse, with `InvalidInput`, what the model alone cannot see; called before anything is written."""

    def useful_until(self) -> datetime | None:
        """Return the time after which going forward makes no sense any more, None for never."""
        return None

    def result(self, db: Session) -> Any:  # noqa: ARG002 - for those who override it
        """Return what `run` and `SagaHandle.result` give the caller of a completed saga: by default all results."""
        return dict(self.results)

    @classmethod
    def public_status(cls, record: SagaRecord) -> str:
        """Return what a customer may be told of a saga: by default its state, a kind of saga knows better words."""
        return str(record.state)

    # --- what a caller uses ---

    @classmethod
    def enqueue(
        cls,
        request: BaseModel | Mapping[str, Any],
        idempotency_key: str | None = None,
        session: Session | None = None,
    ) -> SagaHandle:
        """Record a saga and let Celery carry it out.

        Args:
            request: an `Input`, or a mapping that makes one.
            idempotency_key: a second start with the same key and input returns the first saga.
            session: the caller's own session; the saga then starts if, and when, its transaction commits.

        Returns:
            A handle with the saga's id.

        Raises:
            InvalidInput: the request makes no sense; nothing was written.
            IdempotencyConflict: the key was used with another input.
        """
        return cls._registered().enqueue(cls, request, idempotency_key=idempotency_key, session=session)

    @classmethod
    def run(
        cls,
        request: BaseModel | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        patience: float = PATIENCE,
    ) -> Any:
        """Carry a saga out in this process, in the same table; if the process dies, the workers finish or undo it.

        Args:
            request: an `Input`, or a mapping that makes one.
            idempotency_key: as for `enqueue`.
            patience: seconds to wait for retries, of a step or of its undo, before the workers take over.

        Returns:
            What `result` returns.

        Raises:
            InvalidInput: the request makes no sense; nothing was written.
            SagaException: it failed and was undone.
            SagaCompensationException: it failed and a person must look at it.
            SagaNotFinished: patience ran out; the workers carry it on.
        """
        return cls._registered().run(cls, request, idempotency_key=idempotency_key, patience=patience)

    @classmethod
    def _registered(cls) -> Engine:
        if not hasattr(cls, "engine"):
            raise DefinitionError(f"saga {cls.name} has no engine yet: engine.register({cls.__name__}) first")
        return cls.engine

    # --- what the engine uses ---

    @classmethod
    def parse(cls, request: BaseModel | Mapping[str, Any]) -> BaseModel:
        """Return the request as an `Input`; raises `InvalidInput` with one line per problem, no value quoted."""
        try:
            if isinstance(request, BaseModel):
                # Validated again: a model may have been built with `model_construct` or changed since.
                request = request.model_dump(warnings=False)  # a warning would quote the value
            return cls.Input.model_validate(request)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, problem['loc'])) or 'request'}: {problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors(include_input=False, include_url=False, include_context=False)
            ]
            raise InvalidInput(f"{cls.name}: {'; '.join(problems)}", problems) from None

    @classmethod
    def restore(cls, saga_id: str, input_: Any, results: Mapping[str, Any]) -> Self:
        """Return the instance for a saga on record; `input_` is the JSON that was stored.

        Raises:
            DefinitionError: today's `Input` does not take what was stored; nothing of it is quoted.
        """
        try:
            return cls(saga_id, cls.Input.model_validate(input_), results)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False))
            raise DefinitionError(f"saga {saga_id}: today's {cls.Input.__name__} does not take its {fields}") from None


def _define(cls: type[Saga]) -> Definition:
    """Check a saga's declaration and return its definition; raises `DefinitionError` in one clear line."""
    where = f"saga class {cls.__name__}"
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(f"{where}: set `name` to lower-case letters, digits and underscores, 60 at most")
    model = getattr(cls, "Input", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise DefinitionError(f"{where}: set `Input` to the pydantic model of what the saga is asked to do")
    steps = tuple(value for base in reversed(cls.__mro__) for value in vars(base).values() if isinstance(value, Step))
    if not steps:
        raise DefinitionError(f"{where}: declare at least one step with @step")
    if len({step.name for step in steps}) != len(steps):
        raise DefinitionError(f"{where}: two steps have one name (one of them inherited); rename one")
    pivot_passed = False
    for position, step in enumerate(steps):
        step.position, step.after_pivot = position, pivot_passed
        _check_step(f"{where}, step {step.name}", step)
        if step.pivot and pivot_passed:
            raise DefinitionError(f"{where}, step {step.name}: a saga has one pivot")
        pivot_passed = pivot_passed or step.pivot
    return Definition(name, cls.version, steps, _digest(name, steps))


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
    if step.timeout <= 0:
        raise DefinitionError(f"{where}: a time-out is a positive number of seconds")
    _check_arguments(where, step.method, 1)
    _check_arguments(where, step.note, 2)
    if probe is not None:
        _check_arguments(where, probe.look, 1)
    if undo is not None:
        _check_arguments(where, undo.method, 1)
        _check_arguments(where, undo.note, 2)


def _check_arguments(where: str, method: Method | None, expected: int) -> None:
    """Refuse a method that the engine could not call: found at import, not in the middle of an undo."""
    if method is None:
        return
    try:
        inspect.signature(method).bind(*[None] * (expected + 1))
    except TypeError:
        plural = "argument" if expected == 1 else "arguments"
        raise DefinitionError(f"{where}: {method.__name__} must take self and {expected} {plural}") from None


def _digest(name: str, steps: tuple[Step, ...]) -> str:
    """Hash what a recorded saga depends on: the steps' names, order and kinds, not their code."""
    shape = [
        (step.name, step.external, step.optional, step.pivot, step.undo is not None, step.finder is not None)
        for step in steps
    ]
    return hashlib.sha256(json.dumps([name, shape]).encode()).hexdigest()[:16]
