"""Somebody new on duty meets five problems with nothing but the command line, and goes by what it says.

Each command that is typed stands in the output of the one before it, or in its help.
"""

from __future__ import annotations

import re

import pytest

from sagajobs import SagaHandle
from sagajobs.testing.waiting import wait_for
from tests.cli.inprocess import Done, sagajobs

WHY = ("--who", "Ann", "--why", "seen to it")


class Duty:
    """Types what was said before."""

    def __init__(self) -> None:
        self.said = ""

    def type(self, line: str, *more: str) -> Done:
        """Type a command that the last output names, with its numbers filled in."""
        named = re.sub(r" [0-9a-f-]{36}$", " ID", re.sub(r" \d+$", " CASE", line))
        assert not self.said or line in self.said or named in self.said, f"{line} is not named in:\n{self.said}"
        done = sagajobs(*line.removeprefix("sagajobs ").split(), *more)
        assert done.status == 0, done.err
        self.said = done.out + done.err
        return done


@pytest.fixture
def duty(problems) -> Duty:
    problems.all_swept()
    return Duty()


def only_case(listed: str) -> str:
    [case] = re.findall(r"^(\d+) ", listed, re.MULTILINE)
    return case


def calm(problems, *, workers: bool = False) -> None:
    """Assert that nothing is left that is wrong; the test's own process is no worker."""

    def wrong() -> list[str]:
        problems.all_swept()
        return [one["wrong"] for one in sagajobs("health", "--json").json["wrong"]]

    # A worker that was too busy to answer within a second is told, too, until one looks again.
    wait_for(lambda: wrong() == ([] if workers else ["no worker answers"]), what="a health without advice")


def test_a_compensation_that_failed(duty, problems):
    handle = problems.failed_compensation()
    assert "1 case waits for a person" in duty.type("sagajobs health").out
    listed = duty.type("sagajobs review").out
    assert "an undo failed" in listed
    shown = sagajobs("show", handle.id).out
    assert re.search(r"^book_calcom +undo_failed .* [A-Z]\w+ +-$", shown, re.MULTILINE), "what its undo failed of"
    case = only_case(listed)
    told = duty.type(f"sagajobs explain {case}").out
    assert "POST /v2/bookings/" in told, "what a retry would call"
    assert "/cancel" in told
    problems.calcom_is_well()
    assert re.search(r"^retry:$", told, re.MULTILINE)
    duty.said = told.replace("retry:", f"sagajobs retry {case}")
    duty.type(f"sagajobs retry {case}", *WHY)
    problems.go_on(handle)
    assert handle.status() == "compensated"
    assert problems.simulator.standing() == []
    calm(problems)


def test_attempts_that_are_used_up(duty, problems):
    handle = problems.tried_in_vain()
    assert "1 case waits for a person" in duty.type("sagajobs health").out
    listed = duty.type("sagajobs review").out
    assert "tried again in vain" in listed
    told = duty.type(f"sagajobs explain {only_case(listed)}").out
    cause = re.search(r"^cause +(\w+)", told, re.MULTILINE)[1]
    problems.calcom_is_well()
    # Many cases of one cause are settled together.
    would = sagajobs("retry", "--cause", cause, "--dry-run")
    assert "1 case would be settled by retry" in would.out
    assert sagajobs("retry", "--cause", cause, "--rate", "1000/s", *WHY).status == 0
    problems.go_on(handle)
    assert handle.status() == "completed"
    calm(problems)


def test_the_only_worker_is_dead(duty, problems):
    handle = problems.dead_worker()
    found = duty.type("sagajobs health").out
    assert "no worker answers\n  → start one: `celery -A sagajobs worker`" in found
    oldest = re.search(r"^oldest +(\S{36}) ", found, re.MULTILINE)[1]
    assert oldest == handle.id
    assert "its worker is gone" in sagajobs("show", oldest).out
    problems.start_worker()
    assert SagaHandle(oldest).wait(90) == "completed"
    assert len(problems.simulator.standing()) == 1
    calm(problems, workers=True)


def test_cal_com_is_away(duty, problems):
    handle = problems.circuit_open()
    found = duty.type("sagajobs health").out
    assert "Cal.com fails, and is left alone: the circuit is" in found
    assert "go on by themselves when it answers" in found
    shown = sagajobs("show", handle.id).out
    assert re.search(r"^book_calcom +waiting +0 ", shown, re.MULTILINE), "no attempt is spent"
    problems.calcom_is_well()
    problems.go_on(handle)
    assert handle.status() == "completed"
    assert re.search(r"^circuit of Cal.com +closed", sagajobs("health").out, re.MULTILINE)
    calm(problems)


def test_a_host_has_cancelled_what_we_are_not_sure_of(duty, problems):
    handle = problems.changed_behind_our_back()
    duty.type("sagajobs health")
    listed = duty.type("sagajobs review").out
    assert "nothing can tell whether it happened" in listed
    case = only_case(listed)
    told = duty.type(f"sagajobs explain {case}").out
    assert "retry:" in told
    assert re.search(r"^  then look book_calcom, .*\(it was done, and is gone\)$", told, re.MULTILINE)
    duty.said += f"sagajobs retry {case}"
    duty.type(f"sagajobs retry {case}", *WHY)
    problems.go_on(handle)
    assert handle.status() == "compensated"
    assert "compensated" in sagajobs("show", handle.id).out
    calm(problems)
