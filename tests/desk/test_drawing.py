"""A saga drawn from its history alone."""

from __future__ import annotations

import pytest

from sagajobs.desk.drawing import draw
from sagajobs.desk.scale import Scale

STEPS = ("reserve", "book", "thank")


def history(*lines: tuple) -> list[dict]:
    return [
        {"after": after, "event": event, "step": step, "attempt": attempt, "detail": detail}
        for after, event, step, attempt, detail in ((*line, None, None)[:5] for line in lines)
    ]


def bars(drawing) -> dict:
    return {
        lane.step: [(str(one.bar), one.begins, one.ends, str(one.outcome)) for one in lane.stretches]
        for lane in drawing.lanes
    }


def test_a_saga_that_goes_well():
    events = history(
        (0.0, "saga_created", None),
        (0.1, "step_completed", "reserve", 1),
        (0.2, "step_executing", "book", 1),
        (0.9, "step_completed", "book", 1),
        (1.0, "step_completed", "thank", 1),
        (1.0, "saga_completed", None),
    )
    drawing = draw(events, STEPS, 1.0)
    assert drawing.seconds == 1.0
    assert bars(drawing) == {
        "reserve": [("attempt", 0.0, 0.1, "done")],  # begun and done in one commit: since the one before
        "book": [("attempt", 0.2, 0.9, "done")],
        "thank": [("attempt", 0.9, 1.0, "done")],
    }


def test_retries_waits_a_look_and_an_undo():
    events = history(
        (0.0, "saga_created", None),
        (1.0, "step_completed", "reserve", 1),
        (1.0, "step_executing", "book", 1),
        (2.0, "step_retry", "book", 1),
        (5.0, "step_executing", "book", 2),
        (6.0, "step_unknown", "book", 2),
        (8.0, "step_probed", "book"),
        (8.5, "step_unknown", "book", 2),
        (9.0, "step_failed", "book", 2),
        (9.5, "compensation_started", "reserve", 1),
        (10.0, "compensation_retry", "reserve", 1),
        (12.0, "compensation_started", "reserve", 2),
        (12.5, "compensation_completed", "reserve", 2),
        (12.5, "saga_compensated", None),
    )
    assert bars(draw(events, STEPS, 12.5)) == {
        "reserve": [
            ("attempt", 0.0, 1.0, "done"),
            ("undo", 9.5, 10.0, "failed"),
            ("wait", 10.0, 12.0, "over"),
            ("undo", 12.0, 12.5, "done"),
        ],
        "book": [
            ("attempt", 1.0, 2.0, "failed"),
            ("wait", 2.0, 5.0, "over"),
            ("attempt", 5.0, 6.0, "unknown"),
            ("wait", 6.0, 8.0, "over"),
            ("look", 8.0, 8.5, "over"),
            ("wait", 8.5, 9.0, "failed"),
        ],
        "thank": [],
    }


def test_what_a_person_is_asked_and_what_he_pauses_is_the_sagas_own():
    events = history(
        (1.0, "step_executing", "book", 1),
        (2.0, "step_failed", "book", 1),
        (2.0, "review_required", "book"),
        (60.0, "review_closed", "book"),
        (61.0, "saga_paused", None),
        (70.0, "saga_resumed", None),
        (71.0, "step_executing", "book", 1),
    )
    assert bars(draw(events, STEPS, 80.0)) == {
        None: [("review", 2.0, 60.0, "over"), ("pause", 61.0, 70.0, "over")],
        "reserve": [],
        "book": [("attempt", 1.0, 2.0, "failed"), ("attempt", 71.0, 80.0, "open")],
        "thank": [],
    }


def test_a_look_lasts_until_it_says_what_it_found():
    events = history(
        (1.0, "step_executing", "book", 1),
        (2.0, "step_unknown", "book", 1),
        (2.5, "step_probed", "book"),
        (11.5, "step_completed", "book", 1),
        (12.0, "step_executing", "thank", 1),
        (13.0, "step_unknown", "thank", 1),
        (13.0, "review_required", "thank"),
        (60.0, "step_probed", "thank", None, {"case": 7}),  # the sweep's: nothing is said of what it came to
    )
    drawn = bars(draw(events, STEPS, 80.0))
    assert drawn["book"][-1] == ("look", 2.5, 11.5, "done")
    assert drawn["thank"][1:] == [
        ("wait", 13.0, 60.0, "over"),
        ("look", 60.0, 60.0, "over"),
        ("wait", 60.0, 80.0, "open"),
    ]
    assert bars(draw(events[:3], STEPS, 9.0))["book"][-1] == ("look", 2.5, 9.0, "open")


def test_what_a_person_takes_his_time_for_does_not_hide_the_rest():
    events = history(
        (0.0, "saga_created", None),
        (0.5, "step_executing", "book", 1),
        (1.0, "step_retry", "book", 1),
        (1.5, "step_executing", "book", 2),
        (2.5, "step_failed", "book", 2),
        (2.5, "review_required", "book"),
        (602.5, "review_closed", "book"),
        (602.5, "step_executing", "book", 1),
    )
    open_case = Scale(draw(events[:6], STEPS, 602.5))
    assert [(one.begins, one.ends) for one in open_case.cuts] == [(2.5, 602.5)]
    assert [round(open_case.place(at), 3) for at in (0, 1.25, 2.5, 302.5, 602.5)] == [0.0, 0.4, 0.8, 0.9, 1.0]
    settled = Scale(draw(events, STEPS, 605.0))
    assert [one.seconds for one in settled.cuts] == [600.0]
    places = [settled.place(at) for at in (0.0, 0.5, 1.0, 2.5, 602.5, 605.0)]
    assert places == sorted(places)
    assert (places[0], round(places[-1], 9)) == (0.0, 1.0)
    assert places[2] - places[1] == pytest.approx((places[5] - places[4]) / 5), "one scale, before it and behind it"
    for seconds, cuts in ((5.0, []), (0.0, [])):
        assert Scale(draw(events[:4], STEPS, seconds)).cuts == cuts
    waiting = Scale(draw(events[:1], STEPS, 900.0))
    assert (waiting.cuts, waiting.place(450.0)) == ([], 0.5), "nothing was done yet"


def test_no_bar_runs_backwards_whatever_the_clock_says():
    events = history(
        (2.0, "step_executing", "book", 1),
        (1.5, "step_retry", "book", 1),
        (1.0, "step_executing", "book", 2),
        (0.5, "step_completed", "of another version", 1),
    )
    drawing = draw(events, STEPS, 1.0)
    assert drawing.seconds == 2.0
    for lane in drawing.lanes:
        assert all(0 <= one.begins <= one.ends <= drawing.seconds for one in lane.stretches)
