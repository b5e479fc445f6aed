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

    @book.by_hand
    def adopt(self, reference): ...     # an operator says that he did it: what he refers to, as the step's result

    @book.degradation(retry=HOURLY)
    def mark_for_retry(self, db, error): ...    # instead of failing: say so here, and go on trying, slowly

With `each` a step is done once for every item of the input, all at the same time; its methods then take the item's
number as one more argument::

    @step(external=True, each=lambda saga: len(saga.input.segments))
    def book(self, key, number): ...
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, overload

from sagajobs.errors import DefinitionError
from sagajobs.saga.policy import DEFAULT_RETRY, DEFAULT_UNDO_RETRY, RetryPolicy

Method = Callable[..., Any]
Predicate = Callable[[Any], bool]
Count = Callable[[Any], int]
Wait = Callable[[Any], float]
Turn = Callable[..., float]

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


@dataclass(frozen=True, slots=True)
class Degradation:
    """What is done instead of failing, where the saga's main effect stands or must still come about.

    Attributes:
        mark: local writes `(self, db, error)` that mark something for retry; `error` is the failure as it is on record.
        retry: how the step is tried again from then on, its own attempts being used up; used up too, a person is asked.
    """

    mark: Method
    retry: RetryPolicy


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
        needed: later steps cannot do without its result: nobody may skip it, nor say that it was done where `by_hand`
            cannot make the result.
        when: predicate over the saga; false, the step is skipped.
        adopt: predicate over the saga; true, its effect may exist already when the saga starts.
        timeout: seconds that one attempt may take.
        retry: how it is tried again.
        queue: Celery queue, None for the default one.
        parallel: it runs beside the step declared before it.
        each: how often it is done, all at the same time, from the saga's input; None for once.
        hold: seconds for which it makes no sense to try (a circuit is open), 0 to go ahead; asked before an attempt,
            a probe or an undo is claimed, so that waiting costs neither an attempt nor a line of history.
        turn: seconds until it may be its turn (what it needs is shared out), 0 to go ahead; takes the item's number
            where there is one. Asked after `hold`, before an attempt only: who must settle or undo does not queue with
            who has not begun.
        item: which one of `each` this is, None for the declaration itself.
    """

    method: Method
    external: bool = False
    optional: bool = False
    irreversible: bool = False
    idempotent: bool = False
    pivot: bool = False
    needed: bool = False
    when: Predicate | None = None
    adopt: Predicate | None = None
    timeout: float = DEFAULT_TIMEOUT
    retry: RetryPolicy = DEFAULT_RETRY
    queue: str | None = None
    parallel: bool = False
    each: Count | None = None
    hold: Wait | None = None
    turn: Turn | None = None
    name: str = ""
    finder: Probe | None = None
    undo: Undo | None = None
    note: Method | None = None
    taker: Method | None = None
    degraded: Degradation | None = None
    item: int | None = None
    stage: int = field(default=-1, init=False)
    after_pivot: bool = field(default=False, init=False)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object | None, owner: type) -> Any:
        """On a saga's instance the plain method, so that one step may call another; on the class the step."""
        return self if instance is None else self.method.__get__(instance, owner)

    def number(self, item: int) -> Self:
        """Return one of the steps that a step with `each` stands for."""
        numbered = copy.copy(self)
        numbered.name, numbered.item = f"{self.name}[{item}]", item
        return numbered

    @property
    def base(self) -> str:
        """The name as declared: what `book[3]` and `book[4]` have in common."""
        return base_and_item(self.name)[0]

    @property
    def items(self) -> tuple[int, ...]:
        """What its methods take beside their usual arguments: the item's number, where it is one of several."""
        return () if self.item is None else (self.item,)

    @property
    def most_attempts(self) -> int:
        """Attempts that it gets in all, the slow ones after a degradation counted."""
        return self.retry.max_attempts + (self.degraded.retry.max_attempts if self.degraded else 0)

    def delay(self, attempts: int, error: BaseException | None = None) -> float:
        """Seconds to wait after the attempt number `attempts`: by its own policy, then by that of its degradation."""
        slow = attempts - self.retry.max_attempts
        if self.degraded is None or slow < 0:
            return self.retry.delay(attempts, error)
        return self.degraded.retry.delay(slow + 1, error)

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

    def by_hand(self, method: Method) -> Method:
        """Declare what makes the step's result of what an operator refers to who has done it by hand.

        It takes `(self, reference)` and looks the reference up outside; it raises `PermanentError` or `InvalidInput` if
        it does not fit. Without it the result is `{"reference": ...}`.
        """
        self.taker = method
        return method

    def degradation(self, *, retry: RetryPolicy) -> Callable[[Method], Method]:
        """Declare what is done instead of failing; see `Degradation`."""

        def declare(method: Method) -> Method:
            self.degraded = Degradation(method, retry)
            return method

        return declare


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
    needed: bool = False,
    when: Predicate | None = None,
    adopt: Predicate | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    retry: RetryPolicy = DEFAULT_RETRY,
    queue: str | None = None,
    parallel: bool = False,
    each: Count | None = None,
    hold: Wait | None = None,
    turn: Turn | None = None,
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
    "needed",
    "when",
    "adopt",
    "timeout",
    "retry",
    "queue",
    "parallel",
    "each",
    "hold",
    "turn",
)

_NUMBERED = re.compile(r"(.*)\[(\d+)\]")


def base_and_item(name: str) -> tuple[str, int | None]:
    """Split a step's name on record: `book[3]` is number 3 of `book`, `book` is itself."""
    match = _NUMBERED.fullmatch(name)
    return (name, None) if match is None else (match[1], int(match[2]))
