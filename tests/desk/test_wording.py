"""How things are said, on the command line and in Flower alike."""

from __future__ import annotations

from sagajobs.desk.wording import doing
from sagajobs.flower import looking


def test_what_a_step_waits_for_is_said_in_the_same_words_everywhere():
    idle = {"state": "waiting", "owner": None, "due_in": None, "leased_for": None, "seconds": None, "error": None}
    for changes, said in (
        ({}, "-"),
        ({"due_in": 5.0}, "due in 5 s"),
        ({"due_in": -5.0}, "-"),
        ({"state": "unknown", "due_in": 5.0}, "due in 5 s"),
        ({"state": "done", "due_in": 5.0}, "-"),
        ({"state": "running", "owner": "w/1", "leased_for": 12.0}, "w/1 for 12 s more"),
        ({"state": "running", "owner": "w/1", "leased_for": -1.0}, "its worker is gone"),
        ({"state": "undoing", "owner": "w/1", "leased_for": None}, "its worker is gone"),
        ({"state": "waiting", "owner": "w/1", "leased_for": 0.5}, "w/1 for 0.5 s more"),
    ):
        step = {**idle, **changes}
        assert doing(step) == said, changes
        assert looking._step(step)["now"] == said, changes
