"""The simulator's rate limits: so many calls, then a block, and the figures on every reply."""

import threading
import time

import pytest

LIMIT, REMAINING, RESET = (f"X-RateLimit-{name}-Default" for name in ("Limit", "Remaining", "Reset"))


@pytest.fixture
def limited(simulator):
    """A limit of three calls, windows and blocks longer than a test."""
    simulator.switch(rate_limit_per_minute=3)
    return simulator


def me(simulator, key="cal_test_simulator"):
    return simulator.api("GET", "/v2/me", key=key)


def test_by_default_there_is_none(simulator):
    answer = me(simulator)

    assert answer.ok
    assert LIMIT not in answer.headers


def test_the_figures_count_down_on_every_reply(limited):
    answers = [me(limited), limited.api("GET", "/v2/bookings/nope"), limited.api("GET", "/v2/nowhere")]

    assert [answer.status_code for answer in answers] == [200, 404, 404]
    assert [answer.headers[LIMIT] for answer in answers] == ["3"] * 3
    assert [answer.headers[REMAINING] for answer in answers] == ["2", "1", "0"]
    assert all(0 < int(answer.headers[RESET]) <= 60 for answer in answers)


def test_one_call_too_many_is_refused_in_the_throttler_s_words(limited):
    for _ in range(3):
        me(limited)

    answer = me(limited)

    assert answer.status_code == 429
    assert answer.json()["error"] == {
        "code": "ThrottlerException",
        "message": "CustomThrottlerGuard - Too many requests. Please try again later.",
        "details": {
            "message": "CustomThrottlerGuard - Too many requests. Please try again later.",
            "error": "Too Many Requests",
            "statusCode": 429,
        },
    }
    assert (answer.headers[LIMIT], answer.headers[REMAINING]) == ("3", "0")
    assert 0 < int(answer.headers[RESET]) <= 60
    assert "X-Request-Id" in answer.headers
    assert "Retry-After" not in answer.headers


def test_nothing_is_done_and_no_fault_used_up(limited, book):
    for _ in range(3):
        me(limited)
    limited.fault("create", "http_500", "after")

    assert book().status_code == 429

    assert limited.ledger() == []
    assert limited.control("GET", "faults")["faults"][0]["fired"] == 0


def test_who_calls_without_a_token_is_counted_apart_and_a_wrong_one_not_at_all(limited):
    for _ in range(4):
        me(limited)

    assert me(limited).status_code == 429
    assert limited.api("GET", "/v2/bookings/nope", key=None).headers[REMAINING] == "2"
    wrong = me(limited, key="cal_x")
    assert wrong.status_code == 401
    assert LIMIT not in wrong.headers


def test_the_window_opens_again(simulator):
    simulator.switch(rate_limit_per_minute=2, rate_limit_window_seconds=1)

    assert [me(simulator).status_code for _ in range(2)] == [200, 200]
    threading.Event().wait(1.05)  # the window itself: there is nothing that could say that it is over
    assert me(simulator).headers[REMAINING] == "1"


def test_the_block_outlasts_the_window_and_ends(simulator):
    simulator.switch(rate_limit_per_minute=1, rate_limit_window_seconds=0.2, rate_limit_block_seconds=0.8)
    begun = time.monotonic()
    while me(simulator).ok:
        begun = time.monotonic()

    while not me(simulator).ok:
        pass

    assert time.monotonic() - begun > 0.8


def test_the_control_endpoints_are_not_limited(limited):
    for _ in range(9):
        limited.control("GET", "ledger")


def test_what_was_refused_is_counted(limited):
    for _ in range(5):
        me(limited)
    limited.fault("any", "drop")
    limited.switch(rate_limit_per_minute=0)
    with pytest.raises(OSError, match="closed"):
        limited.api("GET", "/v2/bookings")

    assert limited.control("GET", "counts") == {
        "calls": 6,
        "statuses": {"200": 3, "429": 2, "none": 1},
        "operations": {"me": {"200": 3, "429": 2}, "list": {"none": 1}},
    }
    calls = limited.calls()
    assert [call["status"] for call in calls] == [200, 200, 200, 429, 429, None]
    assert [call["at"] for call in calls] == sorted(call["at"] for call in calls)


@pytest.mark.parametrize(
    ("method", "what", "name"),
    [
        ("PATCH", "location", "Booking_location_update"),
        ("POST", "guests", "Booking_guests_add"),
        ("POST", "attendees", "Booking_attendees_add"),
        ("DELETE", "attendees/1", "Booking_attendees_remove"),
    ],
)
def test_what_sends_mail_has_a_limit_of_its_own(simulator, method, what, name):
    simulator.switch(rate_limit_per_minute=2)
    answers = [simulator.api(method, f"/v2/bookings/nope/{what}", {}) for _ in range(6)]

    statuses = [answer.status_code for answer in answers]
    assert statuses[-1] == 429
    assert 429 not in statuses[:-1]
    assert [answer.headers[f"X-RateLimit-Remaining-{name}"] for answer in answers] == ["4", "3", "2", "1", "0", "0"]
    assert answers[0].headers[f"X-RateLimit-Limit-{name}"] == "5"
    assert 0 < int(answers[-1].headers[f"X-RateLimit-Reset-{name}"]) <= 60
    # It counts instead of the general limit, not beside it.
    assert LIMIT not in answers[0].headers
    assert me(simulator).headers[REMAINING] == "1"
