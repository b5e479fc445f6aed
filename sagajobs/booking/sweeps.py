"""The booking domain's own sweeps: the invariants, and the comparison with Cal.com."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sagajobs.booking import invariants
from sagajobs.booking.alerts import alert
from sagajobs.booking.reconcile import reconciling
from sagajobs.calcom.client import CalcomClient
from sagajobs.saga.sweeps import Sweep, Swept

if TYPE_CHECKING:
    from sagajobs.saga import Engine

INVARIANTS_EVERY = 300.0
"""Seconds between two looks at all appointments: the database refuses what would break an invariant, so that a row can
only do so where somebody has dropped a constraint."""


def booking_sweeps(client: Callable[[], CalcomClient], *, reconcile_interval: float) -> tuple[Sweep, ...]:
    """Return the sweeps over appointments.

    Args:
        client: returns the Cal.com client, whose calls are of the lowest priority.
        reconcile_interval: seconds between two days that are compared with Cal.com.
    """
    return (
        Sweep(name="invariants", body=check_invariants, every=INVARIANTS_EVERY, what="rows that break an invariant"),
        Sweep(
            name="reconcile",
            body=reconciling(client),
            every=reconcile_interval,
            what="differences said or followed",
            publishes=True,
        ),
    )


def check_invariants(engine: Engine, cursor: Any) -> Swept:
    """Count the rows that break an invariant, and call somebody when there are others than at the last run.

    Sagas in flight are not looked at: every statement of theirs is subject to the CHECK constraints that make
    invariants 1 and 2 true at any time, and to those on both statuses, which are invariant 3.
    """
    with engine.database.reading() as connection:
        violations = [violation for violation in invariants.check(connection) if violation.rows]
    broken = {str(one.invariant.number): [one.rows, *one.examples] for one in violations}
    for violation in violations:
        number = violation.invariant.number
        if (cursor or {}).get(str(number)) != broken[str(number)]:
            examples = ", ".join(map(str, violation.examples))
            alert(
                "invariant_broken",
                f"invariant {number} ({violation.invariant.name}) is broken by {violation.rows} appointments: "
                f"{examples}; see sagajobs invariants",
            )
    return Swept(sum(violation.rows for violation in violations), broken)
