"""How the whole stands, in words: what is wrong, and what there is to do about it, for any surface."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from sagajobs.booking.findings import KINDS
from sagajobs.calcom.circuit import CircuitState
from sagajobs.desk.health import Backlog, Health
from sagajobs.desk.health import late as is_late
from sagajobs.desk.wording import coming, moment, span

QUEUE = "Flower's review queue"
"""As advice calls it: in Flower it is a link."""


class Advice(NamedTuple):
    """Something that is wrong, and what a person does about it."""

    wrong: str
    then: str


def advice(found: Health, workers: int | None) -> list[Advice]:
    """Return what is wrong, the worst first; nothing, if all is well.

    Args:
        found: how the whole stands.
        workers: that answer, None if nobody could be asked as the broker is away.
    """
    return [*_nobody_works(found, workers), *_asks_a_person(found), *_cal_com(found)]


def _nobody_works(found: Health, workers: int | None) -> Iterator[Advice]:
    if workers is None:
        yield Advice(
            "the broker does not answer here, so whether workers run is not known",
            "start it, or correct SAGAJOBS_BROKER_URL; nothing is lost, and sagas go on when it is back",
        )
    elif workers == 0:
        yield Advice(
            "no worker answers",
            "start one: `celery -A sagajobs worker`; nothing is lost, and what one that died was at is taken up",
        )
    late = [sweep.name for sweep in found.sweeps if sweep.late]
    if late and _is_silent(found):
        yield Advice("no sweep comes about", "start beat; `sagajobs sweep --all` does its work meanwhile")
    elif late:
        yield Advice(
            f"late: the {'sweep' if len(late) == 1 else 'sweeps'} {', '.join(late)}",
            f"`sagajobs sweep {' '.join(late)}` does that work here, and says why it fails",
        )
    if found.backlog.overdue:
        yield Advice(
            f"{_many(found.backlog.overdue, 'saga is', 'sagas are')} due and not taken up",
            "see that workers and beat run; `sagajobs sweep recover` sends their messages again",
        )
    if found.direct_for is not None:
        yield Advice(
            f"sagas have been turned off for {span(found.direct_for)}: bookings are made directly, and not undone",
            "`sagajobs sagas enable` once what was in the way has gone; `sagajobs settings` says who turned them off",
        )


def _is_silent(found: Health) -> bool:
    """Tell whether no sweep has come at all since the most frequent one should have: rare ones are not late by then."""
    ages = [sweep.age for sweep in found.sweeps if sweep.age is not None]
    return is_late(min(sweep.every for sweep in found.sweeps), min(ages, default=None))


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
    if found.backlog.cases:
        waiting = f"{_many(found.backlog.cases, 'case waits', 'cases wait')} for a person"
        yield Advice(
            f"{waiting}{begun(found.backlog)}",
            f"`sagajobs review`, or {QUEUE}",
        )
    if found.out_of_step:
        yield Advice(
            f"not in step with Cal.com, and left to a person: {differences(found)}",
            f"`sagajobs findings list`, or {QUEUE}",
        )


def _cal_com(found: Health) -> Iterator[Advice]:
    if found.circuit_silent or found.quota_silent:
        yield Advice("Redis does not tell of circuit and quota", "see to it; calls to Cal.com go out without both")
    if found.circuit is not None and is_left_alone(found):
        yield Advice(
            f"Cal.com fails, and is left alone: the circuit is {found.circuit.state}",
            "wait, as sagas spend no attempt meanwhile, and go on by themselves when it answers",
        )
    if found.quota is not None and found.quota.blocked_for:
        yield Advice(
            f"Cal.com refuses all calls for {span(found.quota.blocked_for)}",
            "see who else uses the key, or lower SAGAJOBS_CALCOM_QUOTA",
        )


def _many(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def too_late(found: Backlog) -> str:
    """Say of how many cases the appointment has begun."""
    return f"{_many(found.too_late, 'case', 'cases')} whose appointment has begun"


def begun(found: Backlog) -> str:
    """Say for how many of the cases it is too late, to go on with; nothing, if it is for none."""
    return f", for {found.too_late} of which the appointment has begun" if found.too_late else ""


def differences(found: Health) -> str:
    """Say what reconciling has left to a person."""
    each = [_many(count, KINDS[what].one, KINDS[what].more) for what, count in found.findings.items() if count]
    return ", ".join(each) or "nothing"


def is_left_alone(found: Health) -> bool:
    """Tell whether Cal.com fails, and is called to try it at the most."""
    return found.circuit is not None and found.circuit.state is not CircuitState.CLOSED


def workers(answering: int | None) -> str:
    """Say how many workers answer."""
    return "not known, the broker is away" if answering is None else str(answering)


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


def is_quota_short(found: Health) -> bool:
    """Tell whether Cal.com blocks the key, or nobody knows what is left."""
    return found.quota_silent or bool(found.quota and found.quota.blocked_for)


def drained(found: Health) -> str:
    """Say how long the quota takes to let the calls to come through."""
    if found.calls and is_left_alone(found):
        return "not known, as they wait for Cal.com"
    if found.drained_in is None:
        return "not known" if found.quota_kept else "no quota slows them down"
    return span(found.drained_in)


def needed(urgent_at: datetime | None, urgent_in: float | None) -> str:
    """Say by when a case is needed."""
    return "no time is set" if urgent_in is None else f"{moment(urgent_at)}, {coming(urgent_in)}"


def ran(age: float | None) -> str:
    """Say when a sweep last ran."""
    return "never" if age is None else f"{span(age)} ago"
