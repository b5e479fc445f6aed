"""The checks: each tries one kind of trouble at every place of a saga where it can come about.

A check takes a `Case` and raises `AssertionError`, naming saga, step and point, with the history. It asserts that the
trouble came about where it was meant to, that the saga ended as it should, and that nothing is left: no lock, nothing
outside that should not stand. Where a saga has no such place (nothing has an undo), the check is skipped.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from sagajobs.errors import PermanentError
from sagajobs.saga import SagaState
from sagajobs.saga.events import Lifecycle
from sagajobs.saga.faultpoints import Work
from sagajobs.testing.case import Case
from sagajobs.testing.death import dies_at_every_point
from sagajobs.testing.trial import SIGNED, Trial
from sagajobs.testing.verdict import Verdict

Check = Callable[[Case], None]

_REFUSED = "refused by the testing kit"


def every_step_fails(case: Case) -> None:
    """Each step raises `PermanentError` in place of its work, until the saga rests.

    Before the pivot, and at it, the saga is undone; an optional step is done without; past the pivot a person is
    asked, and a retry ends it once the fault is gone.
    """
    for name in case.usual.steps:
        place = f"{name} fails"
        with case.trial(place) as trial:
            trial.refuse(Work.STEP, name, PermanentError(_REFUSED))
            trial.settle()
            verdict = case.verdict(trial.handle, place)
            verdict.assert_happened(name, Lifecycle.STEP_FAILED, Lifecycle.STEP_DEGRADED)
            _assert_failed_well(case, trial, verdict, name)


def every_undo_fails(case: Case) -> None:
    """Each undo raises `PermanentError` in place of its work: a person is asked; a retry then undoes the rest."""
    for name in _some(case.undone, "no step has an undo that can be reached"):
        place = f"the undo of {name} fails"
        with case.trial(place) as trial:
            trial.turn_round_after(name)
            trial.refuse(Work.UNDO, name, PermanentError(_REFUSED))
            trial.settle()
            verdict = case.verdict(trial.handle, place)
            verdict.assert_happened(name, Lifecycle.COMPENSATION_FAILED)
            _retry(case, trial, verdict, name)
            verdict.assert_end(SagaState.COMPENSATED)


def every_step_runs_twice(case: Case) -> None:
    """The worker dies at each step when all is done but the commit, and the step is begun again: it is done once."""
    for name in case.usual.steps:
        place = f"the worker dies before the commit of {name}"
        with case.trial(place) as trial:
            trial.dies_after(Work.STEP, name)
            trial.settle()
            verdict = case.verdict(trial.handle, place)
            _assert_hit(trial, verdict, name)
            _assert_survived(case, trial, verdict, name)


def every_undo_runs_twice(case: Case) -> None:
    """The worker dies at each undo when all is done but the commit, and it is undone again: nothing is left."""
    for name in _some(case.undone, "no step has an undo that can be reached"):
        place = f"the worker dies before the commit of the undo of {name}"
        with case.trial(place) as trial:
            trial.turn_round_after(name)
            trial.dies_after(Work.UNDO, name)
            trial.settle()
            verdict = case.verdict(trial.handle, place)
            _assert_hit(trial, verdict, name)
            verdict.assert_end(SagaState.COMPENSATED)
            if trial.worked.count((Work.UNDO, name)) < 2:  # noqa: PLR2004 - twice is what the check is about
                raise verdict.failure(f"{name} was not undone a second time")


def every_call_succeeds_then_times_out(case: Case) -> None:
    """The call of each external step is made and `TimeoutError` raised in place of its answer: it is done once."""
    names = [name for name in case.usual.steps if case.step(name).external]
    for name in _some(names, "no step is external"):
        place = f"the call of {name} succeeds and times out"
        with case.trial(place) as trial:
            trial.done_and_then(Work.STEP, name, TimeoutError("raised by the testing kit after the call"))
            trial.settle()
            verdict = case.verdict(trial.handle, place)
            _assert_hit(trial, verdict, name)
            told = (Lifecycle.STEP_UNKNOWN, Lifecycle.STEP_RETRY, Lifecycle.STEP_FAILED, Lifecycle.STEP_DEGRADED)
            verdict.assert_happened(name, *told)
            if case.step(name).finder is None and case.step(name).retry.max_attempts == 1:
                # Nothing may be tried again, and nothing can tell.
                _assert_failed_well(case, trial, verdict, name, in_doubt=True)
            else:
                verdict.assert_end(SagaState.COMPLETED, standing=case.usual.standing)


def every_message_duplicated(case: Case) -> None:
    """Each message comes twice, and all of them once more when the saga is over: they change nothing."""
    for turned, end in _both_ways(case):
        place = f"each message doubled{turned and f', cancelled after {turned}'}"
        with case.trial(place) as trial:
            if turned:
                trial.turn_round_after(turned)
            trial.settle(trial.deliver_twice)
            verdict = case.verdict(trial.handle, place)
            verdict.assert_end(end, standing=case.usual.standing)
            before = len(verdict.history()), len(trial.worked)
            delivered = trial.broker.delivered
            trial.broker.messages = delivered + [replace(message, redelivered=True) for message in delivered]
            trial.drain()
            verdict.assert_end(end, standing=case.usual.standing)
            if (len(verdict.history()), len(trial.worked)) != before:
                raise verdict.failure("a message that came when it was over had something done")


def every_message_lost(case: Case) -> None:
    """No message arrives but those of the sweep, and none that these would lead to."""
    for turned, end in _both_ways(case):
        place = f"each message lost{turned and f', cancelled after {turned}'}"
        with case.trial(place) as trial:
            if turned:
                trial.turn_round_after(turned)
            trial.broker.messages.clear()
            trial.settle(trial.deliver_and_lose_what_follows)
            verdict = case.verdict(trial.handle, place)
            verdict.assert_end(end, standing=case.usual.standing)


def every_prefix_ends_well(case: Case) -> None:
    """The history is cut after each commit and each call: only what is on record by then, and stands outside, is left.

    As after the loss of all workers and messages, or of a database that is restored beside a world that went on no
    further; on the way to the end, and on the way back.
    """
    for turned, end in _both_ways(case):
        for number in itertools.count(1):
            way = f", cancelled after {turned}" if turned else ""
            with case.trial(f"its history cut at point {number}{way}") as trial:
                if turned:
                    trial.turn_round_after(turned)
                trial.cut_at(number)
                trial.settle(trial.deliver_until_cut)
                verdict = case.verdict(trial.handle, f"its history cut at {trial.cut}{way}")
                if trial.handle.status() is SagaState.MANUAL_REVIEW_REQUIRED:
                    _retry_the_only_attempt(case, trial, verdict)
                verdict.assert_end(end, standing=case.usual.standing)
                if not trial.cut:
                    break


CHECKS: tuple[Check, ...] = (
    every_step_fails,
    every_step_runs_twice,
    every_undo_runs_twice,
    every_undo_fails,
    every_call_succeeds_then_times_out,
    dies_at_every_point,
    every_message_duplicated,
    every_message_lost,
    every_prefix_ends_well,
)
"""All checks, for `pytest.mark.parametrize`."""


def name(check: Check) -> str:
    """Return a check's name, for `ids`."""
    return check.__name__


# --- what they share ---


def _some(names: Iterable[str], otherwise: str) -> tuple[str, ...]:
    found = tuple(names)
    if not found:
        pytest.skip(otherwise)
    return found


def _both_ways(case: Case) -> list[tuple[str, SagaState]]:
    """Return the ways in which a saga's messages are tried: to its end and, if it has undos, from its last one back."""
    return [("", SagaState.COMPLETED), *((name, SagaState.COMPENSATED) for name in case.undone[-1:])]


def _assert_hit(trial: Trial, verdict: Verdict, step: str) -> None:
    if trial.hit != 1:
        raise verdict.failure(f"{step} was to be hit once, and was {trial.hit} times")


def _assert_failed_well(case: Case, trial: Trial, verdict: Verdict, step: str, *, in_doubt: bool = False) -> None:
    """Assert how a saga has ended of which a step fails; where a person is asked, heal it and try again."""
    declared = case.step(step)
    if declared.optional:
        verdict.assert_end(SagaState.COMPLETED, standing=case.usual.standing, at_most=True)
    elif (
        declared.after_pivot
        or (in_doubt and declared.undo is None)
        or (declared.degraded is not None and declared.retry.max_attempts == 1)
    ):
        _retry(case, trial, verdict, step)
        verdict.assert_end(SagaState.COMPLETED, standing=case.usual.standing)
    else:
        verdict.assert_end(SagaState.COMPENSATED)


def _assert_survived(case: Case, trial: Trial, verdict: Verdict, step: str) -> None:
    """Assert that a saga was completed whose worker died at a step; one that has a single attempt asks a person."""
    if case.step(step).most_attempts == 1 and trial.handle.status() is SagaState.MANUAL_REVIEW_REQUIRED:
        _retry(case, trial, verdict, step)
    verdict.assert_end(SagaState.COMPLETED, standing=case.usual.standing, at_most=case.step(step).optional)


def _retry_the_only_attempt(case: Case, trial: Trial, verdict: Verdict) -> None:
    """Assert that a person is asked because a step with a single attempt was begun, and have him try again."""
    asked = verdict.case()
    if asked.step is None or case.step(asked.step).most_attempts > 1:
        raise verdict.failure(f"a person is asked ({asked.reason}: {asked.step})")
    _retry(case, trial, verdict, asked.step)


def _retry(case: Case, trial: Trial, verdict: Verdict, step: str) -> None:
    """Assert that a person is asked about the step, and have him try again, the fault being gone."""
    verdict.assert_state(SagaState.MANUAL_REVIEW_REQUIRED)
    asked = verdict.case()
    if asked.step != step:
        raise verdict.failure(f"a person is asked about {asked.step}, and should be about {step}")
    trial.heal()
    case.engine.review.retry(asked.number, **SIGNED)
    trial.settle()
