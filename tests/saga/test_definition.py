"""What a saga's declaration is checked for: a clear error at import, not in the middle of an undo."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from sagajobs.errors import DefinitionError, InvalidInput
from sagajobs.saga import Saga, step


class Input(BaseModel):
    number: int


def _undo(self, db):
    return None


def test_steps_keep_the_order_of_their_declaration():
    class Fine(Saga):
        name = "fine"
        Input = Input

        @step(irreversible=True)
        def first(self, db): ...

        @step
        def second(self, db): ...

        @second.compensation
        def undo_second(self, db): ...

        @step(external=True, pivot=True, idempotent=True)
        def third(self, key): ...

        @step(optional=True)
        def fourth(self, db): ...

    assert [one.name for one in Fine.definition.steps] == ["first", "second", "third", "fourth"]
    assert [one.after_pivot for one in Fine.definition.steps] == [False, False, False, True]


def _declare(**body):
    """Declare a saga from parts; `None` leaves one out."""
    body = {"name": "broken", "Input": Input, **body}
    return type(Saga)("Broken", (Saga,), {key: value for key, value in body.items() if value is not None})


def _local(**options):
    return step(**options)(lambda _self, _db: None)


def _external(**options):
    return step(external=True, **options)(lambda _self, _key: None)


def _with(declared, **parts):
    for part, method in parts.items():
        getattr(declared, part)(method)
    return declared


def _undone_within(timeout):
    declared = _local()
    declared.compensation(timeout=timeout)(lambda _self, _db: None)
    return declared


FINE = {"fine": _local(irreversible=True)}

BROKEN = {
    "no name": ({**FINE, "name": None}, "set `name`"),
    "bad name": ({**FINE, "name": "Not A Name"}, "set `name`"),
    "no input": ({**FINE, "Input": None}, "set `Input`"),
    "input is no model": ({**FINE, "Input": dict}, "set `Input`"),
    "no steps": ({}, "at least one step"),
    "no undo": ({"lonely": _local()}, "declare its undo with @lonely.compensation"),
    "undo of the irreversible": (
        {"both": _with(_local(irreversible=True), compensation=lambda _self, _db: None)},
        "drop one of the two",
    ),
    "compensable after the pivot": (
        {"pivot": _local(pivot=True), "late": _with(_local(), compensation=lambda _self, _db: None)},
        "move it before the pivot",
    ),
    "compensable pivot": ({"pivot": _with(_local(pivot=True), compensation=lambda _self, _db: None)}, "pivot"),
    "two pivots": ({"one": _local(pivot=True), "two": _local(pivot=True)}, "one pivot"),
    "probe on a local step": ({"local": _with(_local(irreversible=True), probe=lambda _self, _key: None)}, "external"),
    "record on a local step": (
        {"local": _with(_local(irreversible=True), record=lambda _self, _db, _result: None)},
        "external",
    ),
    "external without a probe": ({"call": _external(irreversible=True)}, "declare a probe"),
    "adopt without a probe": (
        {"call": _external(irreversible=True, idempotent=True, adopt=lambda _saga: True)},
        "declare a probe",
    ),
    "first step parallel": ({"first": _local(irreversible=True, parallel=True)}, "nothing stands before it"),
    "pivot in parallel": ({**FINE, "pivot": _local(pivot=True, parallel=True)}, "a pivot runs by itself"),
    "pivot with a parallel step": (
        {"pivot": _local(pivot=True), "beside": _local(parallel=True)},
        "a pivot runs by itself",
    ),
    "pivot for each": (
        {"pivot": step(pivot=True, each=lambda _saga: 2)(lambda _self, _db, _item: None)},
        "a pivot runs by itself",
    ),
    "wrong arguments of one of several": (
        {"odd": _local(irreversible=True, each=lambda _saga: 2)},
        r"must take \(self, db, number\)",
    ),
    "wrong arguments of an undo of one of several": (
        {
            "odd": _with(
                step(each=lambda _saga: 2)(lambda _self, _db, _item: None), compensation=lambda _self, _db: None
            )
        },
        r"must take \(self, db, number\)",
    ),
    "locks before an external step": (
        {"call": _external(irreversible=True, idempotent=True), "locks": lambda _self: ["x"]},
        "must be local and by itself",
    ),
    "locks before several steps": (
        {**FINE, "beside": _local(irreversible=True, parallel=True), "locks": lambda _self: ["x"]},
        "must be local and by itself",
    ),
    "locks before an optional step": (
        {"maybe": _local(optional=True), "locks": lambda _self: ["x"]},
        "must not be left out",
    ),
    "locks before a conditional step": (
        {"maybe": _local(irreversible=True, when=lambda _saga: False), "locks": lambda _self: ["x"]},
        "must not be left out",
    ),
    "a time in words": ({"slow": _local(irreversible=True, timeout="20")}, "positive number of seconds, not '20'"),
    "a time in words for an undo": (
        {"slow": _undone_within("20")},
        "positive number of seconds, not '20'",
    ),
    "a number for a policy": ({"odd": _local(irreversible=True, retry=3)}, "retry is a RetryPolicy, not int"),
    "needed and left out": ({"maybe": _local(optional=True, needed=True)}, "drop `needed`"),
    "needed on a condition": (
        {"maybe": _local(irreversible=True, needed=True, when=lambda _saga: False)},
        "drop `needed`",
    ),
    "letting go without a pivot": ({**FINE, "lets_go": True}, "ends with the pivot"),
    "letting go of what is done": (
        {
            "done": _with(_local(), compensation=lambda _self, _db: None),
            "pivot": _local(pivot=True),
            "lets_go": True,
        },
        "nothing before the pivot has an undo",
    ),
    "letting go beside another": (
        {**FINE, "beside": _local(irreversible=True, parallel=True), "pivot": _local(pivot=True), "lets_go": True},
        "or runs in parallel",
    ),
    "no time": ({"slow": _local(irreversible=True, timeout=0)}, "time-out"),
    "reserved name": ({"compensate": _local(irreversible=True)}, "choose another name"),
    "what is shown is no set": ({"one": _local(irreversible=True), "shown": "order_id"}, "shown is a set of names"),
    "name of what a saga has": ({"services": _local(irreversible=True)}, "choose another name: something else of"),
    "name of what a saga is given": ({"input": _local(irreversible=True)}, "choose another name: something else of"),
    "wrong arguments": ({"odd": step(irreversible=True)(lambda _self: None)}, r"must take \(self, db\)"),
    "wrong arguments of an undo": (
        {"odd": _with(_local(), compensation=lambda _self, _db, _more: None)},
        r"must take \(self, db\)",
    ),
    "wrong arguments of a record": (
        {"odd": _with(_external(irreversible=True, idempotent=True), record=lambda _self, _db: None)},
        r"must take \(self, db, result\)",
    ),
}


@pytest.mark.parametrize(("body", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_a_declaration_that_cannot_work_is_refused_in_one_line(body, says):
    with pytest.raises(DefinitionError, match=says) as caught:
        _declare(**body)
    assert "\n" not in str(caught.value)


def test_two_steps_of_one_name_are_refused():
    with pytest.raises(DefinitionError, match="two things are called 'twice'"):

        class Twice(Saga):
            name = "twice"
            Input = Input

            @step(irreversible=True)
            def twice(self, db): ...

            @step(irreversible=True)
            def twice(self, db): ...  # noqa: F811 - the mistake that is tested


def test_an_option_that_step_does_not_have_is_named():
    with pytest.raises(DefinitionError, match="@step has no option externl"):
        step(externl=True)


@pytest.mark.parametrize("kind", [Saga, object, FINE])
def test_what_is_no_declared_saga_is_not_registered(app_engine, kind):
    with pytest.raises(DefinitionError, match="derives from Saga and declares steps"):
        app_engine.register(kind)


def test_two_compensations_or_probes_are_refused():
    declared = _with(_local(), compensation=lambda _self, _db: None)
    with pytest.raises(DefinitionError, match="two compensations"):
        declared.compensation(lambda _self, _db: None)
    declared = _with(_external(), probe=lambda _self, _key: None)
    with pytest.raises(DefinitionError, match="two probes"):
        declared.probe(lambda _self, _key: None)


def test_input_is_checked_without_quoting_it():
    saga = _declare(**FINE)
    with pytest.raises(InvalidInput) as caught:
        saga.parse({"number": "my secret"})
    assert "number" in str(caught.value)
    assert "my secret" not in str(caught.value)
    with pytest.raises(InvalidInput):
        saga.parse(Input.model_construct(number="unchecked"))
