"""What tests do to the shared circuit breaker, as any caller would."""

from __future__ import annotations

from sagajobs.calcom import errors
from sagajobs.calcom.operations import ME
from sagajobs.testing.waiting import wait_for


def fail(circuit, times):
    for _ in range(times):
        circuit.failed(circuit.admit(ME))


def admitted(circuit, operation=ME):
    try:
        circuit.give_back(circuit.admit(operation))
    except errors.CalcomCircuitOpen:
        return False
    return True


def await_trial(circuit):
    wait_for(lambda: circuit.snapshot().next_trial_in == 0)
