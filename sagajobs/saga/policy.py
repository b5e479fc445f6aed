"""How a step that failed is tried again: retry policies, and what kind of failure an exception is."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from billiard.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import DBAPIError, OperationalError

from sagajobs.errors import AmbiguousError, Deferred, PermanentError, TransientError

SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
LOCK_NOT_AVAILABLE = "55P03"
_TRANSIENT_SQLSTATES = frozenset({SERIALIZATION_FAILURE, DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE})


class Failure(StrEnum):
    """The kinds of failure that the engine tells apart (SPEC 3)."""

    TRANSIENT = "transient"
    DEFERRED = "deferred"
    PERMANENT = "permanent"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a step is tried again, and how often.

    The delay before attempt n+1 is `base` x `factor`^(n-1) seconds, at most `max_delay`, less a random part of up to
    `jitter` of it, so that sagas which failed together do not come back together.

    Attributes:
        max_attempts: deliveries in all, the first one counted.
        base: seconds before the second attempt.
        factor: growth of the delay from attempt to attempt.
        max_delay: longest delay in seconds.
        jitter: share of the delay that chance may take away, 0 to 1.
        deferral: least seconds before the next try after one that did not count (`Deferred`), where the other side
            did not say: such tries do not add up, so nothing else would slow them down.
        transient: further exceptions that mean "nothing was done, try again".
        permanent: further exceptions that mean "nothing was done, never try again".
        ambiguous: further exceptions that mean "it may have been done".
    """

    max_attempts: int = 5
    base: float = 1.0
    factor: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.25
    deferral: float = 5.0
    transient: tuple[type[Exception], ...] = ()
    permanent: tuple[type[Exception], ...] = ()
    ambiguous: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("max_attempts is at least 1: the first attempt counts")
        if self.base < 0 or self.factor < 1 or self.max_delay < 0 or not 0 <= self.jitter <= 1:
            raise ValueError("a retry policy needs base >= 0, factor >= 1, max_delay >= 0, 0 <= jitter <= 1")

    def delay(self, attempts: int, error: BaseException | None = None) -> float:
        """Seconds to wait after the attempt number `attempts` failed with `error`.

        What the other side asked for (`TransientError.retry_after`) is a floor that jitter does not lower.
        """
        delay = min(self.base * self.factor ** max(attempts - 1, 0), self.max_delay)
        delay *= 1 - self.jitter * random.random()  # noqa: S311 - spread, not secrecy
        asked = error.retry_after if isinstance(error, TransientError) else None
        if asked is None and isinstance(error, Deferred):
            asked = self.deferral
        return max(delay, asked) if asked is not None else delay

    def classify(self, error: BaseException, *, external: bool) -> Failure:
        """Say what kind of failure `error` is.

        What nobody has classified is judged by the step: a local step has been rolled back, so its failure is
        permanent (a bug, bad data); an external one may have got through before it failed, so it is ambiguous.
        """
        kind = self._named(error)
        if kind is not None:
            return kind
        if not external and (isinstance(error, SoftTimeLimitExceeded) or passes_by_itself(error)):
            return Failure.TRANSIENT
        return Failure.AMBIGUOUS if external else Failure.PERMANENT

    def foresees(self, error: BaseException) -> bool:
        """Tell whether somebody has a class for `error`; any other one is taken for a mistake in the code."""
        return self._named(error) is not None or isinstance(error, SoftTimeLimitExceeded) or passes_by_itself(error)

    def _named(self, error: BaseException) -> Failure | None:
        kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Failure], ...] = (
            (self.permanent, Failure.PERMANENT),
            (self.ambiguous, Failure.AMBIGUOUS),
            (self.transient, Failure.TRANSIENT),
            (PermanentError, Failure.PERMANENT),
            (AmbiguousError, Failure.AMBIGUOUS),
            (Deferred, Failure.DEFERRED),
            (TransientError, Failure.TRANSIENT),
        )
        for types, kind in kinds:
            if isinstance(error, types):
                return kind
        return None


def passes_by_itself(error: BaseException) -> bool:
    """Tell whether the database itself asks for another try: a lost connection, a deadlock, a lock time-out."""
    if not isinstance(error, DBAPIError):
        return False
    sqlstate = getattr(error.orig, "pgcode", None)
    return error.connection_invalidated or isinstance(error, OperationalError) or sqlstate in _TRANSIENT_SQLSTATES


DEFAULT_RETRY = RetryPolicy()
"""Five attempts over about fifteen seconds."""

DEFAULT_UNDO_RETRY = RetryPolicy(max_attempts=10, max_delay=600.0)
"""An undo gets more patience than a do: giving up on it leaves the world inconsistent."""
