"""`Saga`: the class from which every saga derives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from sagajobs.errors import DefinitionError, InvalidInput, LockNotAvailable
from sagajobs.saga import statements
from sagajobs.saga.declaration import Step
from sagajobs.saga.locks import take_locks
from sagajobs.saga.shape import Definition, define
from sagajobs.saga.traits import difference

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine
    from sagajobs.saga.handle import SagaHandle
    from sagajobs.saga.records import SagaRecord

PATIENCE = 60.0
"""Seconds for which `run` waits for retries before it leaves the saga to the workers."""

LOCK_WAIT = 30.0
"""Seconds for which a saga waits for its locks before it gives up (SPEC G6)."""


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


class Saga(metaclass=_SagaType):
    """A series of steps, each with a way to undo it: all of it happens, or none.

    Subclass it, set `name` and `Input`, and declare the steps in order with `@step`. An instance stands for one saga
    of that kind while one of its methods runs.

    Attributes:
        name: of the kind of saga; part of the table's key and of the task names, so it must not change.
        version: raise it when you change the steps, or `Input`.
        Input: the pydantic model of what the saga is asked to do.
        definition: what the checks found.
        versions: this class and, as given to `Engine.register`, the former ones of that name that still finish what was
            begun by them; the present one first.
        engine: the engine it is registered with.
        services: what the application hands to its sagas (clients and the like), as given to `Engine.register`.
        lock_wait: seconds for which it waits for its `locks`.
        lets_go: it holds them, until its pivot, only while a step is at work, not while one waits for its time; they
            are taken again before the next attempt. For a saga that changes nothing before its pivot.
        shown: names of fields, wherever they stand in input, results and receipts, whose values are about no person:
            those values are shown to operators, and of all others the names alone.
        id: of this saga.
        input: what this saga was asked to do.
        results: what the steps done so far returned, by step name.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Input: ClassVar[type[BaseModel]]
    definition: ClassVar[Definition]
    versions: ClassVar[tuple[type[Saga], ...]]
    engine: ClassVar[Engine]
    services: ClassVar[Any] = None
    lock_wait: ClassVar[float] = LOCK_WAIT
    lets_go: ClassVar[bool] = False
    shown: ClassVar[frozenset[str]] = frozenset()

    id: str
    input: Any
    results: Mapping[str, Any]

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not abstract:
            cls.definition = define(cls, locking=cls.locks is not Saga.locks, lets_go=cls.lets_go)
            cls.versions = (cls,)

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

    def locks(self) -> Iterable[str]:
        """Return the names of what no other saga may work on meanwhile, such as `appointment:17`.

        They are taken with the first step, in the order of their names, and held until the saga has ended, also while
        it is partial, paused, or waits for a person (`lets_go`: from its pivot on). Whoever wants one of them while the
        first step is at work waits for its transaction, in a worker's slot: let that step be short.
        """
        return ()

    def urgent_at(self) -> datetime | None:
        """Return the time by which a person should have settled a question about it.

        By default None, and it is `useful_until`. For a saga that is of use at any time, and whose questions are not.
        """
        return None

    def note_review(self, db: Session) -> None:
        """Write what the application's own tables are to show of it, in the commit that asks a person about this saga.

        Not called where the code could not take the saga up. Should it fail, the case is opened all the same.
        """

    def note_settled(self, db: Session, step: str | None) -> None:
        """Write what those tables are to show when nobody is asked any more, in the commit that closes the case.

        It comes after the remedy's own local writes; what the saga does next, its steps write. They need not write
        anything: it may have been abandoned, or goes on without the step that would have. Not called where the code
        cannot take the saga up. Should it fail, the case is closed all the same.

        Args:
            db: the session of that transaction.
            step: name of the step that the case was about, None if it was about none.
        """

    @classmethod
    def conditions(cls) -> Mapping[str, Any]:
        """Return what is to be on record with every retry: the outside world's state, to learn from later."""
        return {}

    @classmethod
    def rehearse(cls, services: Any) -> tuple[Any, list[Mapping[str, Any]]] | None:
        """Return services with which a step can be rehearsed, so that an operator sees what it would do.

        They read the outside world as usual. A call that would change something they put on a list instead of making
        it, as a mapping with `method`, `path`, `body`, and `masked` (the body without what is about a person), and
        raise `RehearsalOver`.

        Args:
            services: the ordinary ones.

        Returns:
            The services and their list: by default what their method `rehearsing` returns. None if they have none
            such, and nothing of this kind can be rehearsed.
        """
        rehearsed: tuple[Any, list[Mapping[str, Any]]] | None
        rehearsed = services.rehearsing() if hasattr(services, "rehearsing") else None
        return rehearsed

    def result(self, db: Session) -> Any:  # noqa: ARG002 - for those who override it
        """Return what `run` and `SagaHandle.result` give the caller of a completed saga: by default all results."""
        return dict(self.results)

    @classmethod
    def public_status(cls, record: SagaRecord) -> str:
        """Return what a customer may be told of a saga: by default its state, a kind of saga knows better words."""
        return str(record.state)

    # --- what a step uses ---

    def lock(self, db: Session, resource: str) -> None:
        """Hold a lock also on what a local step has just made, until this saga has ended.

        Args:
            db: the step's session.
            resource: its name, as in `locks`.

        Raises:
            LockNotAvailable: another saga holds it.
        """
        if take_locks(db.connection(), self.id, [resource], self.lock_wait) is not None:
            raise LockNotAvailable(f"{resource} is another saga's")

    def begun(self, db: Session, step: str) -> bool:
        """Tell whether an attempt at an external step was ever made, whatever became of it.

        Args:
            db: the session of the step, or of the undo, that asks.
            step: the external step's name.
        """
        return bool(db.execute(statements.BEGUN, {"id": self.id, "step": step}).scalar_one())

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
    def of(cls, record: SagaRecord) -> type[Saga]:
        """Return the version of this saga that a recorded one is to be finished by.

        The one with the recorded number or, if that cannot do it, the first that can; the present one if none can: its
        `definition.check` then says why.
        """
        if len(cls.versions) == 1:
            return cls.versions[0]
        able = [kind for kind in cls.versions if difference(record, kind.definition.steps) is None]
        same = [kind for kind in able if kind.version == record.version]
        return (*same, *able, *cls.versions)[0]

    @classmethod
    def restore(cls, saga_id: str, input_: Any, results: Mapping[str, Any]) -> Self:
        """Return the instance for a saga on record; `input_` is the JSON that was stored.

        Raises:
            DefinitionError: today's `Input` does not take what was stored; nothing of it is quoted.
        """
        try:
            return cls(saga_id, cls.Input.model_validate(input_), results)
        except ValidationError as error:
            raise DefinitionError(f"saga {saga_id}: {cls._not_taken(error)}") from None

    @classmethod
    def unfit(cls, record: SagaRecord) -> str | None:
        """Return why this class cannot take a recorded saga up, None if it can; its steps' code is not tried."""
        why = difference(record, cls.definition.steps)
        if why is not None:
            return why
        try:
            cls.Input.model_validate(record.input)
        except ValidationError as error:
            return cls._not_taken(error)
        except Exception as error:  # noqa: BLE001 - the author's validators: whatever they raise, they would raise it again
            return f"today's {cls.Input.__name__} fails on its input: {type(error).__name__}"
        return None

    @classmethod
    def _not_taken(cls, error: ValidationError) -> str:
        places = [problem["loc"] for problem in error.errors(include_input=False)]
        fields = dict.fromkeys(".".join("*" if isinstance(part, int) else part for part in loc) for loc in places)
        return f"today's {cls.Input.__name__} does not take its {', '.join(fields)}"
