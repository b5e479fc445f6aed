"""The circuit breaker that all workers with one API key share: Cal.com, when it fails, is left alone for a while.

`pybreaker` keeps the state in Redis and knows its transitions. Three things it does are not for a fleet, and are
kept out of the way here:

* It holds a lock during the call, which would send a process's calls one after the other. So no call is made through
  it; it is asked before and told afterwards.
* An instance that sees the state changed by another process takes the change for its own and sets the shared counter
  of failures back. So no instance outlives a question: all that lasts is in Redis.
* Half open, it lets through whoever comes. So the trial is whoever gets a lock in Redis, and the lock is held until
  the outcome is on record.
"""

from __future__ import annotations

import contextlib
import logging
import random
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

import pybreaker
from redis.exceptions import LockError

from sagajobs.calcom.errors import CalcomCircuitOpen

if TYPE_CHECKING:
    import redis
    from redis.lock import Lock

    from sagajobs.calcom.operations import Operation
    from sagajobs.calcom.shared import Shared

_log = logging.getLogger(__name__)

CHANGES_LATER = 0.25
"""Share of the reset time by which a call that changes something waits longer to be the trial: a read that ends in a
time-out leaves no doubt behind."""

SPREAD = 0.25
"""Most of the reset time that chance adds to a wait, so that who waited together does not come back together."""

_SOON = 0.05
"""Seconds until the next look where the trial ended between two looks."""


class CircuitState(StrEnum):
    """Whether calls go out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_STATES = {
    pybreaker.STATE_CLOSED: CircuitState.CLOSED,
    pybreaker.STATE_OPEN: CircuitState.OPEN,
    pybreaker.STATE_HALF_OPEN: CircuitState.HALF_OPEN,
}


@dataclass(frozen=True, slots=True)
class CircuitSnapshot:
    """How the circuit stands.

    Attributes:
        state: open until a trial call is under way, half open until it has ended.
        failures: in a row, those counted so far.
        opened_at: when it last opened, to the second, or None if it never did.
        next_trial_in: seconds until a call may be the trial; 0 if the next one may, or if the circuit is closed.
    """

    state: CircuitState
    failures: int
    opened_at: datetime | None
    next_trial_in: float


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a call may do: go out (as the trial, if it holds its lock), or wait so many seconds."""

    wait: float | None = None
    trial: Lock | None = None


class Circuit:
    """Stops the calls of all workers while Cal.com fails, and lets one through at a time to see whether it still does.

    The trial is one call in the whole fleet, and a read where possible: a change may become it only some time after
    a read might have. A change that is the trial and gets no answer is what it would be at any other time: its
    outcome is unknown, a probe looks (which the circuit puts off until the next trial, at no cost in attempts), and
    the circuit is open again.

    Args:
        shared: where the state is kept; while Redis is away, the circuit counts as closed.
        failures: so many in a row open it.
        reset: seconds until a trial is let through. Redis keeps whole seconds, so it may be up to one less.
        longest_call: seconds after which a trial counts as lost with the worker that made it.
    """

    def __init__(self, shared: Shared, *, failures: int, reset: float, longest_call: float) -> None:
        self._shared = shared
        self._failures = failures
        self._reset = reset
        self._longest_call = longest_call
        self._stored: tuple[redis.Redis, _Storage] | None = None

    def admit(self, operation: Operation) -> Lock | None:
        """Let a call pass, or not.

        Returns:
            The trial's lock if this call is the trial, to be handed back with its outcome.

        Raises:
            CalcomCircuitOpen: it must not be sent; `retry_after` is the time until the next trial, and a bit of
                chance.
        """
        verdict = self._shared.ask(lambda client: self._judge(client, operation), _Verdict())
        if verdict.wait is not None:
            raise CalcomCircuitOpen(
                f"{operation}: not sent, Cal.com has been failing", retry_after=verdict.wait + self._spread()
            )
        return verdict.trial

    def hold(self, operation: Operation) -> float:
        """Return the seconds for which a call would not be admitted, and a bit of chance, or 0; tries nothing."""
        wait = self._shared.ask(lambda client: self._until_admitted(client, operation), 0.0)
        return wait + self._spread() if wait > 0 else 0.0

    def succeeded(self, trial: Lock | None) -> None:
        """Note that a call was answered by a Cal.com that works, be it with a refusal."""
        self._shared.ask(lambda client: self._note(client, trial, failed=False), None)

    def failed(self, trial: Lock | None) -> None:
        """Note that a call was not answered, or not by a Cal.com that works."""
        self._shared.ask(lambda client: self._note(client, trial, failed=True), None)

    def give_back(self, trial: Lock | None) -> None:
        """Let another call be the trial: this one did not come to tell anything."""
        if trial is not None:
            self._shared.ask(lambda _: _release(trial), None)

    def state(self) -> CircuitState:
        """Return whether calls go out; closed while Redis is away."""
        return self._shared.ask(lambda client: _STATES[self._storage(client).state], CircuitState.CLOSED)

    def snapshot(self) -> CircuitSnapshot | None:
        """Return how the circuit stands, or None while Redis is away."""
        return self._shared.ask(self._snapshot, None)

    def close(self) -> None:
        """Let all calls out again, whatever was counted: for operators who know better, and for tests."""

        def close(client: redis.Redis) -> None:
            self._breaker(client).close()
            client.delete(self._trial_name)

        self._shared.ask(close, None)

    def _judge(self, client: redis.Redis, operation: Operation) -> _Verdict:
        if (wait := self._wait(client, operation)) is None:
            return _Verdict()
        if wait > 0:
            return _Verdict(wait=wait)
        trial = client.lock(self._trial_name, timeout=self._longest_call, thread_local=False)
        if not trial.acquire(blocking=False):
            return _Verdict(wait=max(self._until_trial_ends(client), _SOON))
        # Another trial may have ended since the first look, and given its lock back.
        wait = self._wait(client, operation)
        if wait == 0:
            self._breaker(client).half_open()
            return _Verdict(trial=trial)
        _release(trial)
        return _Verdict(wait=wait)

    def _wait(self, client: redis.Redis, operation: Operation) -> float | None:
        """Return the seconds until `operation` may be the trial, or None if the circuit is closed."""
        storage = self._storage(client)
        if storage.state == pybreaker.STATE_CLOSED:
            return None
        return self._until_trial(storage, self._reset * (1 + CHANGES_LATER) if operation.changes else self._reset)

    def _until_admitted(self, client: redis.Redis, operation: Operation) -> float:
        wait = self._wait(client, operation)
        return 0.0 if wait is None else max(wait, self._until_trial_ends(client))

    def _until_trial_ends(self, client: redis.Redis) -> float:
        return max(client.pttl(self._trial_name), 0) / 1000

    def _spread(self) -> float:
        return random.uniform(0, SPREAD * self._reset)  # noqa: S311 - spread, not secrecy

    def _until_trial(self, storage: _Storage, after: float) -> float:
        opened_at = storage.opened_at
        if opened_at is None:
            return 0.0
        return max((opened_at + timedelta(seconds=after) - datetime.now(UTC)).total_seconds(), 0.0)

    def _note(self, client: redis.Redis, trial: Lock | None, *, failed: bool) -> None:
        storage = self._storage(client)
        # A call that was sent before the circuit opened tells nothing about now.
        if trial is None and (storage.state != pybreaker.STATE_CLOSED or (not failed and storage.counter == 0)):
            return
        # The breaker's own error: another trial, taken for lost, has come back and opened the circuit.
        with contextlib.suppress(_Failed, pybreaker.CircuitBreakerError):
            self._breaker(client).call(_fail if failed else _succeed)
        if trial is not None:
            _release(trial)

    def _snapshot(self, client: redis.Redis) -> CircuitSnapshot:
        storage = self._storage(client)
        state = _STATES[storage.state]
        wait = 0.0
        if state is not CircuitState.CLOSED:
            wait = max(self._until_trial(storage, self._reset), self._until_trial_ends(client))
        return CircuitSnapshot(state, storage.counter, storage.opened_at, wait)

    @property
    def _trial_name(self) -> str:
        return self._shared.name("circuit", "trial")

    def _storage(self, client: redis.Redis) -> _Storage:
        # Kept with its client: making one writes to Redis.
        stored = self._stored
        if stored is None or stored[0] is not client:
            stored = client, _Storage(pybreaker.STATE_CLOSED, client, self._shared.name("circuit"))
            self._stored = stored
        return stored[1]

    def _breaker(self, client: redis.Redis) -> pybreaker.CircuitBreaker:
        return pybreaker.CircuitBreaker(
            fail_max=self._failures,
            reset_timeout=self._reset,
            state_storage=self._storage(client),
            listeners=[_Teller()],
            throw_new_error_on_trip=False,
        )


class _Failed(Exception):
    """What the breaker is shown in place of a call that failed."""


def _fail() -> NoReturn:
    raise _Failed


def _succeed() -> None:
    """Be shown to the breaker in place of a call that succeeded."""


def _release(trial: Lock) -> None:
    # Run out while the call was under way: it is somebody else's by now, or nobody's.
    with contextlib.suppress(LockError):
        trial.release()


class _Raising(logging.Logger):
    """Stands where the storage logs an error of Redis and goes on as if nothing had been: raises it instead."""

    def exception(self, *_args: Any, **_options: Any) -> None:
        error = sys.exception()
        if error is not None:
            raise error


class _Storage(pybreaker.CircuitRedisStorage):
    """The state in Redis; an error of Redis gets out, to be dealt with once a minute and not once a command."""

    logger = _Raising(__name__)


class _Teller(pybreaker.CircuitBreakerListener):
    """Logs what becomes of the circuit."""

    def state_change(self, _breaker: Any, old_state: Any, new_state: Any) -> None:
        if old_state.name != new_state.name:
            _log.warning("Cal.com's circuit: %s, was %s", _STATES[new_state.name], _STATES[old_state.name])
