"""What a call to Cal.com has to pass before it is sent, and what is told of it afterwards."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sagajobs.calcom.answers import BAD_REQUEST, CLIENT_GAVE_UP, REQUEST_TIMEOUT, SERVER_ERRORS
from sagajobs.calcom.circuit import CircuitState
from sagajobs.calcom.errors import (
    CalcomError,
    CalcomOutcomeUnknown,
    CalcomQuotaSpent,
    CalcomRateLimited,
    CalcomUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.lock import Lock

    from sagajobs.calcom.circuit import Circuit
    from sagajobs.calcom.operations import Operation
    from sagajobs.calcom.priority import Priority
    from sagajobs.calcom.quota import Quota


class Gate:
    """Asks the circuit breaker, then the quota, so that what is not sent anyway uses none of it.

    Args:
        circuit: the circuit breaker, or None to do without.
        quota: the quota, or None to do without.
    """

    def __init__(self, *, circuit: Circuit | None = None, quota: Quota | None = None) -> None:
        self.circuit = circuit
        self.quota = quota

    def hold(self, operation: Operation, priority: Priority) -> float:
        """Return the seconds for which a call would be stopped, or 0; takes nothing and tries nothing."""
        waits = [self.circuit.hold(operation) if self.circuit else 0.0]
        waits.append(self.quota.hold(operation, priority) if self.quota else 0.0)
        return max(waits)

    def turn(self, operation: Operation, priority: Priority) -> float:
        """Return the seconds until the quota may have something left for a call, or 0; takes nothing."""
        return self.quota.hold(operation, priority) if self.quota else 0.0

    def wants_trial(self) -> bool:
        """Tell whether the circuit is open; if `hold` stops no call all the same, the next one is the trial."""
        return self.circuit is not None and self.circuit.state() is not CircuitState.CLOSED

    @contextmanager
    def passing(self, operation: Operation, priority: Priority) -> Iterator[None]:
        """Let the call that the block makes pass, and take note of how it ends.

        Raises:
            CalcomCircuitOpen: Cal.com has been failing.
            CalcomQuotaSpent: nothing is left for calls of this priority.
        """
        trial = self.circuit.admit(operation) if self.circuit else None
        told = False
        try:
            if self.quota:
                self.quota.take(operation, priority)
            yield
            told = self._tell(trial, failed=False)
        except (CalcomQuotaSpent, CalcomRateLimited) as error:
            if isinstance(error, CalcomRateLimited) and self.quota and error.retry_after is not None:
                self.quota.block(operation, error.retry_after)
            raise
        except CalcomError as error:
            told = self._tell(trial, failed=_says_that_calcom_fails(error))
            raise
        finally:
            # Over the quota, or ended from outside: nothing was learnt about Cal.com.
            if self.circuit and not told:
                self.circuit.give_back(trial)

    def _tell(self, trial: Lock | None, *, failed: bool) -> bool:
        if self.circuit:
            note = self.circuit.failed if failed else self.circuit.succeeded
            note(trial)
        return True


def _says_that_calcom_fails(error: CalcomError) -> bool:
    """Tell whether no working Cal.com can have been the cause; a refusal is the answer of one that works."""
    if not isinstance(error, CalcomUnavailable | CalcomOutcomeUnknown):
        return False
    refused = error.status is not None and BAD_REQUEST <= error.status < SERVER_ERRORS
    return not refused or error.status in {REQUEST_TIMEOUT, CLIENT_GAVE_UP}


OPEN_GATE = Gate()
"""Stops no call and notes nothing."""
