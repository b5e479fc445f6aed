"""What tests do to the shared circuit breaker, as any caller would."""

from __future__ import annotations

import time

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


def let_trial_come(circuit):
    """Have it be open since an hour ago: no test's time is up in the middle, as its reset may be a long one."""
    shared, an_hour_ago = circuit._shared, int(time.time()) - 3600
    shared.ask(lambda client: client.set(shared.name("circuit", "pybreaker", "opened_at"), an_hour_ago), None)
    assert circuit.snapshot().next_trial_in == 0
