"""How the whole stands, in words: what is wrong, and what there is to do about it, for any surface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sagajobs.calcom.circuit import CircuitState
from sagajobs.desk.health import Health
from sagajobs.desk.wording import span


class Advice(NamedTuple):
    """Something that is wrong, and what a person does about it."""

    wrong: str
    then: str


def advice(found: Health, workers: int | None) -> list[Advice]:
    """Return what is wrong, the worst first; nothing, if all is well.

    Args:
        found: how the whole stands.
        workers: that answer, None if nobody could be asked.
    """
    return [*_nobody_works(found, workers), *_asks_a_person(found), *_cal_com(found)]


def _nobody_works(found: Health, workers: int | None) -> Iterator[Advice]:
    if workers == 0:
        yield Advice(
            "no worker answers",
            "start one: `celery -A sagajobs worker`; nothing is lost, and what one that died was at is taken up",
        )
    late = [sweep.name for sweep in found.sweeps if sweep.late]
    if late and len(late) == len(found.sweeps):
        yield Advice("no sweep comes about", "start beat; `sagajobs sweep --all` does its work meanwhile")
    elif late:
        yield Advice(
            f"late: the sweep {', '.join(late)}", f"`sagajobs sweep {late[0]}` runs it here, and says why it fails"
        )
    if found.overdue:
        yield Advice(
            f"{_many(found.overdue, 'saga is', 'sagas are')} due and not taken up",
            "see that workers and beat run; `sagajobs sweep recover` sends their messages again",
        )


def _asks_a_person(found: Health) -> Iterator[Advice]:
    for one in found.invariants:
        if one.rows:
            examples = ", ".join(map(str, one.examples))
            rows = _many(one.rows, "appointment", "appointments")
            broken = f"invariant {one.invariant.number}, {one.invariant.name}, is broken by {rows}"
            yield Advice(
                f"{broken}: {examples}",
                "`sagajobs invariants` looks again; `sagajobs find NUMBER` has an appointment's sagas",
            )
    if found.cases:
        late = f", for {found.too_late} of which the appointment has begun" if found.too_late else ""
        yield Advice(
            f"{_many(found.cases, 'case waits', 'cases wait')} for a person{late}",
            "`sagajobs review`, or the review queue in Flower",
        )


def _cal_com(found: Health) -> Iterator[Advice]:
    if (found.circuit_kept and found.circuit is None) or (found.quota_kept and found.quota is None):
        yield Advice("Redis does not tell of circuit and quota", "see to it; calls to Cal.com go out without both")
    if found.circuit is not None and found.circuit.state is not CircuitState.CLOSED:
        yield Advice(
            f"Cal.com fails, and is left alone: the circuit is {found.circuit.state}",
            "nothing, as sagas wait, spend no attempt, and go on by themselves when it answers",
        )
    if found.quota is not None and found.quota.blocked_for:
        yield Advice(
            f"Cal.com refuses all calls for {span(found.quota.blocked_for)}",
            "see who else uses the key, or lower SAGAJOBS_CALCOM_QUOTA",
        )


def _many(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def circuit(found: Health) -> str:
    """Say how the circuit breaker of calls to Cal.com stands."""
    one = found.circuit
    if one is None:
        return "not known" if found.circuit_kept else "none is kept"
    trial = f", next trial in {span(one.next_trial_in)}" if one.next_trial_in else ""
    return f"{one.state}, {one.failures} failures in a row{trial}"


def quota(found: Health) -> str:
    """Say what is used of the quota of calls."""
    one = found.quota
    if one is None:
        return "not known" if found.quota_kept else "none is kept"
    blocked = f", Cal.com blocks the key for {span(one.blocked_for)}" if one.blocked_for else ""
    return f"{one.used} of {one.per_minute} calls used within {one.window} s{blocked}"


def drained(found: Health) -> str:
    """Say how long the quota takes to let the calls to come through."""
    if found.drained_in is None:
        return "not known" if found.quota_kept else "no quota slows them down"
    return span(found.drained_in)


def ran(age: float | None) -> str:
    """Say when a sweep last ran."""
    return "never" if age is None else f"{span(age)} ago"
