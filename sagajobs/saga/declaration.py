"""`@step` and what hangs on it: how a saga's steps are written down.

A step is declared by decorating a method of a `Saga`; the names that the decorator returns take the rest::

    @step(external=True, timeout=20)
    def book(self, key): ...            # the call; `key` identifies it in the outside world

    @book.probe(looks=3, over=4.0)
    def find(self, key): ...            # did it happen? the result, or None

    @book.record
    def note(self, db, booking): ...    # local writes, in the commit that records the result

    @book.compensation
    def cancel(self, booking): ...      # undo it, look again, return the evidence

    @cancel.record
    def note_cancel(self, db, receipt): ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, overload

from sagajobs.errors import DefinitionError
from sagajobs.saga.policy import DEFAULT_RETRY, DEFAULT_UNDO_RETRY, RetryPolicy

Method = Callable[..., Any]
Predicate = Callable[[Any], bool]

DEFAULT_TIMEOUT = 30.0
"""Seconds a step may take; its lease is this and `LEASE_MARGIN`."""

LEASE_MARGIN = 5.0
"""Seconds between a step's time-out and the end of its lease: room for the commit that records the result."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A look at the outside world that tells whether an external step happened.

    Attributes:
        look: method `(self, key)` that returns the step's result if it happened and None if it did not.
        looks: how many times in a row it must see nothing before that counts (replicas lag).
        over: seconds that must lie between the first and the last of these looks.
        retry: how a look that fails itself is repeated; used up, a person decides.
    """

    look: Method
    looks: int = 3
    over: float = 4.0
    retry: RetryPolicy = DEFAULT_UNDO_RETRY

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return self.over / max(self.looks - 1, 1)


class Undo:
    """The undo of a step.

    It must bear repetition: a worker may die after undoing and before saying so.

    Attributes:
        method: local `(self, db)`, external `(self, result)`; returns the evidence (JSON) or None.
        when: predicate over the saga; false, there is nothing to undo.
        retry: how often it is tried before a person is asked.
        timeout: seconds that one try may take.
        note: local writes in the commit that records an external undo, `(self, db, receipt)`.
    """

    def __init__(self, method: Method, *, when: Predicate | None, retry: RetryPolicy, timeout: float) -> None:
        self.method = method
        self.when = when
        self.retry = retry
        self.timeout = timeout
        self.note: Method | None = None

    def __get__(self, instance: object | None, owner: type) -> Any:
        """On a saga's instance the plain method; on the class the undo."""
        return self if instance is None else self.method.__get__(instance, owner)

    def record(self, method: Method) -> Method:
        """Declare local writes that are committed together with the record of this undo."""
        self.note = method
        return method


@dataclass(eq=False)
class Step:
    """One step of a saga: what it does, how it is undone, how it is tried again.

    Attributes:
        method: local `(self, db)`, external `(self, key)`; returns the step's result, JSON or None.
        external: it acts outside the database; the intent is on record before it runs.
        optional: its failure is recorded and the saga goes on.
        irreversible: it has no undo, on purpose.
        idempotent: an external step that may be repeated blindly, so that it needs no probe.
        pivot: past it the saga only goes forward.
        when: predicate over the saga; false, the step is skipped.
        adopt: predicate over the saga; true, its effect may exist already when the saga starts.
        timeout: seconds that one attempt may take.
        retry: how it is tried again.
        queue: Celery queue, None for the default one.
    """

    method: Method
    external: bool = False
    optional: bool = False
    irreversible: bool = False
    idempotent: bool = False
    pivot: bool = False
    when: Predicate | None = None
    adopt: Predicate | None = None
    timeout: float = DEFAULT_TIMEOUT
    retry: RetryPolicy = DEFAULT_RETRY
    queue: str | None = None
    name: str = ""
    position: int = -1
    finder: Probe | None = None
    undo: Undo | None = None
    note: Method | None = None
    after_pivot: bool = field(default=False, init=False)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object | None, owner: type) -> Any:
        """On a saga's instance the plain method, so that one step may call another; on the class the step."""
        return self if instance is None else self.method.__get__(instance, owner)

    @property
    def stage(self) -> int:
        """Index of the stage in which the step runs; siblings that run in parallel will share one."""
        return self.position

    @property
    def lease(self) -> float:
        """Seconds after which a claimed attempt is over for certain, its worker dead or alive."""
        return self.timeout + LEASE_MARGIN

    @overload
    def compensation(self, method: Method) -> Undo: ...

    @overload
    def compensation(
        self,
        method: None = None,
        *,
        when: Predicate | None = None,
        retry: RetryPolicy = DEFAULT_UNDO_RETRY,
        timeout: float | None = None,
    ) -> Callable[[Method], Undo]: ...

    def compensation(
        self,
        method: Method | None = None,
        *,
        when: Predicate | None = None,
        retry: RetryPolicy = DEFAULT_UNDO_RETRY,
        timeout: float | None = None,
    ) -> Undo | Callable[[Method], Undo]:
        """Declare the undo of this step; see `Undo` for the arguments."""

        def declare(method: Method) -> Undo:
            if self.undo is not None:
                raise DefinitionError(f"step {self.name or self.method.__name__} has two compensations: keep one")
            self.undo = Undo(method, when=when, retry=retry, timeout=timeout or self.timeout)
            return self.undo

        return declare if method is None else declare(method)

    @overload
    def probe(self, method: Method) -> Method: ...

    @overload
    def probe(
        self,
        method: None = None,
        *,
        looks: int = 3,
        over: float = 4.0,
        retry: RetryPolicy = DEFAULT_UNDO_RETRY,
    ) -> Callable[[Method], Method]: ...

    def probe(
        self,
        method: Method | None = None,
        *,
        looks: int = 3,
        over: float = 4.0,
        retry: RetryPolicy = DEFAULT_UNDO_RETRY,
    ) -> Method | Callable[[Method], Method]:
        """Declare how to look whether this external step happened; see `Probe` for the arguments."""

        def declare(method: Method) -> Method:
            if self.finder is not None:
                raise DefinitionError(f"step {self.name or self.method.__name__} has two probes: keep one")
            self.finder = Probe(method, looks=looks, over=over, retry=retry)
            return method

        return declare if method is None else declare(method)

    def record(self, method: Method) -> Method:
        """Declare local writes `(self, db, result)` that are committed together with an external step's result."""
        self.note = method
        return method


@overload
def step(method: Method) -> Step: ...


@overload
def step(
    method: None = None,
    *,
    external: bool = False,
    optional: bool = False,
    irreversible: bool = False,
    idempotent: bool = False,
    pivot: bool = False,
    when: Predicate | None = None,
    adopt: Predicate | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    retry: RetryPolicy = DEFAULT_RETRY,
    queue: str | None = None,
) -> Callable[[Method], Step]: ...


def step(method: Method | None = None, **options: Any) -> Step | Callable[[Method], Step]:
    """Declare a method of a saga as its next step; see `Step` for the options."""
    if method is not None:
        return Step(method)
    unknown = set(options) - set(_OPTIONS)
    if unknown:
        raise DefinitionError(f"@step has no option {', '.join(sorted(unknown))}; it has {', '.join(_OPTIONS)}")
    return lambda method: Step(method, **options)


_OPTIONS = (
    "external",
    "optional",
    "irreversible",
    "idempotent",
    "pivot",
    "when",
    "adopt",
    "timeout",
    "retry",
    "queue",
)
