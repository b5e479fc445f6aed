"""Retry policies: how long to wait, and what kind of failure an exception is."""

from __future__ import annotations

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError, OperationalError

from sagajobs.errors import AmbiguousError, AmbiguousRefusal, Deferred, EffectGone, PermanentError, TransientError
from sagajobs.saga.policy import Failure, RetryPolicy


@pytest.mark.parametrize(
    ("error", "external", "kind"),
    [
        (TransientError(), True, Failure.TRANSIENT),
        (TransientError(), False, Failure.TRANSIENT),
        (Deferred(), True, Failure.DEFERRED),
        (PermanentError(), True, Failure.PERMANENT),
        (EffectGone(), True, Failure.PERMANENT),
        (AmbiguousError(), True, Failure.AMBIGUOUS),
        (AmbiguousRefusal(), True, Failure.AMBIGUOUS),
        # What nobody classified: a local step was rolled back, an external one may have got through.
        (KeyError("bug"), False, Failure.PERMANENT),
        (KeyError("bug"), True, Failure.AMBIGUOUS),
        (TimeoutError(), True, Failure.AMBIGUOUS),
        (OperationalError("s", {}, Exception()), False, Failure.TRANSIENT),
        (IntegrityError("s", {}, Exception()), False, Failure.PERMANENT),
        (SoftTimeLimitExceeded(), False, Failure.TRANSIENT),
        (SoftTimeLimitExceeded(), True, Failure.AMBIGUOUS),
    ],
)
def test_classification(error, external, kind):
    assert RetryPolicy().classify(error, external=external) is kind


def test_a_policy_knows_further_exceptions_and_they_come_first():
    policy = RetryPolicy(transient=(PermanentError,), permanent=(OSError,), ambiguous=(ValueError,))
    assert policy.classify(PermanentError(), external=True) is Failure.TRANSIENT
    assert policy.classify(ConnectionError(), external=True) is Failure.PERMANENT
    assert policy.classify(ValueError(), external=False) is Failure.AMBIGUOUS


@given(st.integers(1, 60), st.floats(0, 1))
def test_delays_grow_stay_within_bounds_and_lose_at_most_the_jitter(attempts, jitter):
    policy = RetryPolicy(base=0.5, factor=3, max_delay=90, jitter=jitter)
    full = min(0.5 * 3 ** (attempts - 1), 90)
    assert full * (1 - jitter) <= policy.delay(attempts) <= full


def test_what_the_other_side_asked_for_is_a_floor():
    policy = RetryPolicy(base=0.1, jitter=1.0)
    assert policy.delay(1, TransientError(retry_after=30)) == 30


def test_what_does_not_count_is_slowed_down_all_the_same():
    policy = RetryPolicy(base=0.1, deferral=7)
    assert policy.delay(1, Deferred()) == 7
    assert policy.delay(1, Deferred(retry_after=0.5)) == 0.5


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"base": -1}, {"factor": 0.5}, {"jitter": 2}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"max_attempts|retry policy"):
        RetryPolicy(**wrong)
