"""A saga drawn from its history alone."""

from __future__ import annotations

from sagajobs.desk.drawing import draw

STEPS = ("reserve", "book", "thank")


def history(*lines: tuple) -> list[dict]:
    return [
        {"after": after, "event": event, "step": step, "attempt": attempt[0] if attempt else None}
        for after, event, step, *attempt in lines
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
            ("look", 8.0, 8.0, "over"),
            ("wait", 8.0, 8.5, "over"),
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
