"""A saga begun by one version of its code is finished by another, or refused before anything is done, saying why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import text

from sagajobs.errors import DefinitionError, RemedyRefused
from sagajobs.saga import RetryPolicy, Saga, SagaHandle, control, inflight, step
from sagajobs.saga.traits import traits
from tests.support.sagas import QUICK, record
from tests.support.throwaway import PREFIX, Throwaway

NAME = f"{PREFIX}_order"
SIGNED = {"who": "Op", "why": "to see"}


class Order(BaseModel):
    number: int = 1
    note: str = ""


def begin(self, db) -> str:
    """Tell which version has done it."""
    return f"version {self.version}"


def forget(self, db) -> str:
    return f"version {self.version}"


def call(self, key: str) -> str:
    self.services.act(key, "book")
    return f"version {self.version}"


def look(self, key: str) -> str | None:
    return f"version {self.version}" if self.services.stands(key) else None


def take_back(self, result) -> str:
    self.services.act(f"{self.id}/call", "cancel")
    return f"version {self.version}"


def last(self, db, _number=0) -> str:
    return f"version {self.version}"


def _begin(**options: Any):
    made = step(retry=QUICK, **options)(begin)
    if not options.get("irreversible"):
        made.compensation(forget)
    return made


def _call(*, undo: bool = True, probe: bool = True, **options: Any):
    made = step(**{"external": True, "retry": QUICK, "timeout": 1} | options)(call)
    if probe:
        made.probe(looks=2, over=0.0, retry=QUICK)(look)
    if undo:
        made.compensation(take_back)
    return made


def _last(**options: Any):
    return step(**{"irreversible": True, "retry": QUICK} | options)(last)


def _version(number: int, **steps: Any) -> type[Saga]:
    """Declare a version; `steps` take the place of the usual ones, in their order, and None leaves one out."""
    usual = {"begin": _begin(), "call": _call(), "last": _last()}
    body = {name: made for name, made in {**usual, **steps}.items() if made is not None}
    return type(Saga)(f"Order{number}", (Saga,), {"name": NAME, "version": number, "Input": Order, **body})


def _reordered() -> type[Saga]:
    body = {"call": _call(), "begin": _begin(), "last": _last()}
    return type(Saga)("Order2", (Saga,), {"name": NAME, "version": 2, "Input": Order, **body})


COMPATIBLE: dict[str, Callable[[], type[Saga]]] = {
    "other attempts and time-outs": lambda: _version(
        2, begin=_begin(timeout=3), call=_call(timeout=7, retry=RetryPolicy(max_attempts=9))
    ),
    "a condition": lambda: _version(2, last=_last(when=lambda saga: saga.input.number == 1)),
    "an undo": lambda: _version(2, last=_with(step(retry=QUICK)(last), "compensation", forget)),
    "may fail": lambda: _version(2, last=_last(optional=True, irreversible=False)),
    "must not be left out": lambda: _version(2, last=_last(needed=True)),
    "a second chance": lambda: _version(2, last=_with(_last(), "degradation", _mark, retry=QUICK)),
}
"""What N may have changed, and finish what N-1 began."""

INCOMPATIBLE: dict[str, tuple[Callable[[], type[Saga]], str]] = {
    "a step removed": (lambda: _version(2, call=None), "recorded with the steps begin, call, last, and this version"),
    "a step appended": (lambda: _version(2, more=_last()), "this version of the code has begin, call, last, more"),
    "a step renamed": (
        lambda: _version(2, last=None, final=_last()),
        "this version of the code has begin, call, final",
    ),
    "reordered": (_reordered, "this version of the code has call, begin, last"),
    "from outside in": (
        lambda: _version(2, call=_with(step(retry=QUICK)(begin), "compensation", forget)),
        "as recorded, step call is external; in this version",
    ),
    "from inside out": (
        lambda: _version(2, last=_call()),
        "in this version of the code, step last is external; as recorded",
    ),
    "an undo removed": (lambda: _version(2, call=_call(undo=False, irreversible=True)), "step call has an undo"),
    "a probe removed": (lambda: _version(2, call=_call(probe=False, idempotent=True)), "step call has a probe"),
    "a pivot": (lambda: _version(2, last=_last(pivot=True, irreversible=False)), "step last is the pivot"),
    "side by side": (lambda: _version(2, last=_last(parallel=True)), "step last runs beside the one before it"),
    "once for each": (lambda: _version(2, last=_last(each=lambda _saga: 1)), "step last is done once for each item"),
}
"""What N must not have changed, and what is said of it."""


def _mark(self, db, error) -> None: ...


def _with(declared, part: str, method, **how: Any):
    getattr(declared, part)(**how)(method) if how else getattr(declared, part)(method)
    return declared


@pytest.fixture
def deploy(throwaway: Throwaway, app_engine, world):
    """Have this process know a saga by these versions, the present one first, as after a deployment."""

    def register(*versions: type[Saga]) -> type[Saga]:
        app_engine.kinds.pop(NAME, None)
        app_engine.register(versions[0], world, former=versions[1:])
        return versions[0]

    return register


def _begun(app_engine, kind: type[Saga], steps: int, **asked: Any) -> SagaHandle:
    """Record a saga and carry out so many of its steps."""
    handle = record(kind, asked)
    for declared in kind.definition.steps[:steps]:
        app_engine.executor.forward(kind, declared, handle.id)
    return handle


def _cancel(app_engine, handle: SagaHandle) -> None:
    """Have a saga undone, by whoever comes to it: nobody is told."""
    worker, app_engine.publisher = app_engine.publisher, None
    control.cancel(app_engine, handle.id, **SIGNED)
    app_engine.publisher = worker


def _rows(app_engine) -> list[list[str]]:
    """Return all that is on record of sagas."""
    ordered = ("sagas t ORDER BY id", "saga_steps t ORDER BY saga_id, position", "saga_events t ORDER BY id")
    with app_engine.database.reading() as connection:
        return [list(connection.exec_driver_sql(f"SELECT to_jsonb(t)::text FROM {one}").scalars()) for one in ordered]


def _receipts(app_engine) -> list[str]:
    """Return which versions have undone something."""
    with app_engine.database.reading() as connection:
        found = connection.execute(text("SELECT DISTINCT receipt #>> '{}' FROM saga_steps WHERE receipt IS NOT NULL"))
        return list(found.scalars())


def _told(handle: SagaHandle) -> dict[str, Any]:
    return {name: one.output for name, one in handle.record().steps.items()}


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("change", COMPATIBLE)
def test_a_newer_version_finishes_what_the_older_began(app_engine, deploy, throwaway, change, steps):
    handle = _begun(app_engine, deploy(_version(1)), steps)
    deploy(COMPATIBLE[change]())
    assert inflight.check(app_engine).stranded == ()
    assert throwaway.sweep(handle) == "completed"
    by = list(_told(handle).values())
    assert by == ["version 1"] * steps + ["version 2"] * (3 - steps)


@pytest.mark.parametrize("change", COMPATIBLE)
def test_a_newer_version_undoes_what_the_older_did(app_engine, deploy, throwaway, world, change):
    handle = _begun(app_engine, deploy(_version(1)), 2)
    _cancel(app_engine, handle)
    deploy(COMPATIBLE[change]())
    assert throwaway.sweep(handle) == "compensated"
    assert not world.stands(f"{handle.id}/call")
    assert _receipts(app_engine) == ["version 2"]


@pytest.mark.parametrize("steps", range(3))
@pytest.mark.parametrize("change", INCOMPATIBLE)
def test_a_version_that_cannot_finish_it_touches_nothing_and_says_why(app_engine, deploy, change, steps):
    old = deploy(_version(1))
    handle = _begun(app_engine, old, steps)
    before = _rows(app_engine)
    make, why = INCOMPATIBLE[change]
    new = deploy(make())
    for declared in new.definition.steps:
        with pytest.raises(DefinitionError, match=f"saga {handle.id} .{NAME}, version 1.: .*{why}") as caught:
            app_engine.executor.forward(new, declared if declared.each is None else declared.number(0), handle.id)
        assert "\n" not in str(caught.value)
    with pytest.raises(DefinitionError, match=why):
        control.cancel(app_engine, handle.id, **SIGNED)
    assert _rows(app_engine) == before
    (stranded,) = inflight.check(app_engine).stranded
    assert (stranded.name, stranded.version, stranded.example, stranded.count) == (NAME, 1, handle.id, 1)
    assert why in stranded.reason
    deploy(old)
    assert app_engine.drive(old, handle.id)[0].state == "completed", "by a worker of the right version that still runs"


@pytest.mark.parametrize("change", INCOMPATIBLE)
def test_what_is_being_undone_is_not_undone_by_a_version_that_cannot(app_engine, deploy, world, change):
    old = deploy(_version(1))
    handle = _begun(app_engine, old, 2)
    _cancel(app_engine, handle)
    before = _rows(app_engine)
    make, why = INCOMPATIBLE[change]
    new = deploy(make())
    with pytest.raises(DefinitionError, match=why):
        app_engine.executor.compensate(new, handle.id)
    assert _rows(app_engine) == before
    assert world.stands(f"{handle.id}/call")
    deploy(old)
    app_engine.executor.compensate(old, handle.id)
    assert handle.status() == "compensated"


def test_a_person_is_asked_in_time_and_may_only_abandon_or_wait_for_the_code(app_engine, deploy, throwaway, db):
    handle = _begun(app_engine, deploy(_version(1)), 1)
    deploy(_version(2, call=None))
    assert throwaway.sweep(handle) == "manual_review_required"
    (case,) = app_engine.review.cases()
    assert "recorded with the steps begin, call, last" in case.evidence["error"]["message"]
    with pytest.raises(RemedyRefused, match="this version of the code has begin, last"):
        app_engine.review.retry(case.number, **SIGNED)
    assert [(one.version, dict(one.states)) for one in inflight.check(app_engine).stranded] == [
        (1, {"manual_review_required": 1})
    ]
    deploy(_version(2, call=None), _version(1))
    app_engine.review.retry(case.number, **SIGNED)
    assert throwaway.sweep(handle) == "completed"


# --- former versions kept beside the new one ---


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("change", INCOMPATIBLE)
def test_a_former_version_that_is_kept_finishes_what_it_began(app_engine, deploy, throwaway, change, steps):
    handle = _begun(app_engine, deploy(_version(1)), steps)
    make, _ = INCOMPATIBLE[change]
    new = deploy(make(), _version(1))
    other = record(new, {})
    assert inflight.check(app_engine) == inflight.Held(1 + (steps < 3), ())
    assert (throwaway.sweep(handle), throwaway.sweep(other)) == ("completed", "completed")
    assert throwaway.worker.raised == []
    assert set(_told(handle).values()) == {"version 1"}
    assert set(_told(other).values()) == {"version 2"}
    assert other.record().version == 2


@pytest.mark.parametrize("change", INCOMPATIBLE)
def test_a_former_version_that_is_kept_undoes_what_it_did(app_engine, deploy, throwaway, world, change):
    handle = _begun(app_engine, deploy(_version(1)), 2)
    make, _ = INCOMPATIBLE[change]
    deploy(make(), _version(1))
    _cancel(app_engine, handle)
    assert throwaway.sweep(handle) == "compensated"
    assert not world.stands(f"{handle.id}/call")
    assert _receipts(app_engine) == ["version 1"]


def test_of_two_that_could_the_recorded_number_decides(app_engine, deploy, throwaway):
    handles = [_begun(app_engine, deploy(_version(number)), 1) for number in (1, 2)]
    deploy(_version(3), _version(2), _version(1))
    for handle in handles:
        throwaway.sweep(handle)
    assert [set(_told(handle).values()) for handle in handles] == [{"version 1"}, {"version 2"}]


def test_a_message_from_another_versions_chain_ends_and_does_nothing(app_engine, deploy):
    former = deploy(_version(1))
    old = _begun(app_engine, former, 1)
    new = deploy(_version(2, call=None, post=_call()), _version(1))
    late = _begun(app_engine, new, 1)
    before = _rows(app_engine)
    strays = ((old, new.definition.step("post")), (late, former.definition.step("call")))
    verdicts = [app_engine.executor.forward(new, stray, handle.id).verdict for handle, stray in strays]
    assert (verdicts, _rows(app_engine)) == (["end", "end"], before)
    for handle in (old, late):
        app_engine.drive(new, handle.id)


def test_the_deployments_time_outs_are_set_in_former_versions_too(app_engine, deploy, world):
    app_engine.kinds.pop(NAME, None)
    new, old = _version(2, last=None), _version(1)
    app_engine.register(new, world, timeouts={"call": 9, "last": 4}, former=[old])
    assert (new.definition.step("call").timeout, old.definition.step("call").timeout) == (9, 9)
    assert old.definition.step("last").timeout == 4
    with pytest.raises(DefinitionError, match="no step or undo 'nothing'"):
        app_engine.register(new, world, timeouts={"nothing": 9}, former=[old])


def test_former_versions_have_the_name_and_numbers_of_their_own(app_engine, deploy):
    other = type(Saga)("Other", (Saga,), {"name": f"{PREFIX}_other", "Input": Order, "last": _last()})
    for former in (_version(2), other):
        with pytest.raises(DefinitionError, match="each a number of its own"):
            deploy(_version(2, last=None), former)
    del app_engine.kinds[NAME]


# --- the check before a deployment ---


def test_an_input_that_the_new_model_does_not_take_is_found_and_quoted_nowhere(app_engine, deploy, throwaway):
    handle = record(deploy(_version(1)), {"note": "confidential"})

    class Stricter(Order):
        note: int

    new = _version(2)
    new.Input = Stricter
    deploy(new)
    (stranded,) = inflight.check(app_engine).stranded
    assert (stranded.reason, stranded.example) == ("today's Stricter does not take its note", handle.id)
    deploy(new, _version(1))
    assert inflight.check(app_engine).stranded == (), "the class of that number takes it"


def test_a_kind_that_nobody_knows_and_what_has_ended(app_engine, deploy, throwaway):
    ended = record(deploy(_version(1)), {})
    throwaway.sweep(ended)
    handles = [record(deploy(_version(1)), {}) for _ in range(3)]
    control.pause(app_engine, handles[0].id, **SIGNED)
    del app_engine.kinds[NAME]
    held = inflight.check(app_engine)
    (stranded,) = held.stranded
    assert (held.in_flight, stranded.count, stranded.reason) == (3, 3, "no code here knows this kind of saga")
    assert dict(stranded.states) == {"pending": 2, "paused": 1}


def test_what_goes_on_record_names_what_each_step_is():
    kind = _version(1, call=_call(optional=True), last=_last(parallel=True))
    assert kind.definition.traits == traits(kind.definition.steps) == "u,xup,b"
    assert _version(1).definition.traits == _version(2, begin=_begin(timeout=9)).definition.traits == "u,xup,-"
