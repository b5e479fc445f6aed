"""Every way in which a saga comes to need a person, made to happen, and the remedies that it then takes."""

from __future__ import annotations

import contextlib

import pytest
from sqlalchemy import text

from sagajobs.errors import SagaCompensationException
from sagajobs.saga import RetryPolicy, SagaHandle, SagaOrchestrator, step
from sagajobs.saga.remedies import Remedy
from sagajobs.saga.states import UNFINISHED
from sagajobs.saga.sweep import recover
from tests.support.sagas import QUICK, Killed, Pivoting, Scripted, record

ONCE = RetryPolicy(max_attempts=1, base=0.01)

R, S, D, U, A = Remedy.RETRY, Remedy.SKIP, Remedy.MARK_DONE, Remedy.MARK_UNDONE, Remedy.ABANDON
SIGNED = {"who": "Op", "why": "looked at it"}


def nothing(self, *_):
    return None


def until_asked(throwaway, handle, rounds=60):
    for _ in range(rounds):
        if handle.status() not in UNFINISHED:
            break
        with contextlib.suppress(Killed):
            throwaway.sweep(handle, rounds=1)
    assert handle.status() == "manual_review_required"
    return handle


def fails_then_works(error, times=1):
    """Return a body, of a step or anything else, that raises so often, then returns."""
    left = [times]

    def body(*_):
        if left[0]:
            left[0] -= 1
            raise error
        return {"did": True}

    return body


def dying():
    """Return a local step's body that dies as often as it may, then works; its first attempt counts for two."""
    return fails_then_works(Killed(), QUICK.max_attempts - 1)


def exhausted_local(throwaway):
    """Every attempt of a local step died at work."""
    return until_asked(throwaway, record(Scripted, {"script": {"first": ["killed"] * 2 + ["ok"]}}))


def exhausted_external(throwaway):
    """Every attempt of an external step died before its call got through."""
    return until_asked(throwaway, record(Scripted, {"script": {"call": ["killed"] * 3 + ["ok"]}}))


def exhausted_needed(throwaway):
    """Every attempt of a step died whose result later steps cannot do without."""
    return until_asked(throwaway, throwaway.record(act=step(needed=True, irreversible=True, retry=QUICK)(dying())))


def exhausted_needed_by_hand(throwaway):
    """Likewise, and a reference can make its result."""
    act = step(needed=True, irreversible=True, retry=QUICK)(dying())
    act.by_hand(lambda self, reference: {"made": reference})
    return until_asked(throwaway, throwaway.record(act=act))


def past_the_pivot(throwaway):
    return until_asked(throwaway, record(Pivoting, {"script": {"after": ["permanent", "ok"]}}))


def in_doubt_forward(throwaway):
    """It was booked, and neither its call nor any look answered."""
    script = {"call": ["book+timeout", "ok"], "find": ["timeout"] * 3 + ["ok"]}
    return until_asked(throwaway, record(Scripted, {"script": script}))


def in_doubt_past_the_pivot(throwaway):
    call = step(external=True, retry=QUICK)(fails_then_works(TimeoutError()))
    call.probe(looks=1, over=0, retry=ONCE)(fails_then_works(TimeoutError()))
    return until_asked(throwaway, throwaway.record(pivot=step(pivot=True)(nothing), call=call))


def in_doubt_backward(throwaway):
    """Cancelled while the call was unanswered, and no look answers."""
    script = {"call": ["book+timeout"], "find": ["timeout"] * 4 + ["ok"]}
    handle = record(Scripted, {"script": script})
    for name in ("first", "call"):
        throwaway.engine.executor.forward(Scripted, Scripted.definition.step(name), handle.id)
    handle.cancel(who="Op", why="the customer rang")
    return until_asked(throwaway, handle)


def unrecorded(throwaway):
    """Done outside, past undoing, and our own tables refuse to know of it."""
    call = step(external=True, pivot=True, retry=QUICK)(lambda self, key: {"key": key})
    call.probe(lambda self, key: None)
    call.record(fails_then_works(ValueError()))
    return until_asked(throwaway, throwaway.record(call=call, after=step(nothing)))


def not_undone(throwaway):
    return until_asked(throwaway, record(Scripted, {"script": {"last": ["bug"], "cancel": ["permanent", "ok"]}}))


def not_undone_locally(throwaway):
    return until_asked(throwaway, record(Scripted, {"script": {"call": ["permanent"], "undo_first": ["bug", "ok"]}}))


def tried_in_vain(throwaway):
    """Marked for retry, and the slow attempts are used up too."""
    act = step(retry=ONCE)(fails_then_works(ValueError(), 2))
    act.degradation(retry=ONCE)(nothing)
    return until_asked(throwaway, throwaway.record(pivot=step(pivot=True)(nothing), act=act))


def not_even_marked(throwaway):
    act = step(retry=ONCE)(fails_then_works(ValueError()))
    act.degradation(retry=ONCE)(fails_then_works(ValueError()))
    return until_asked(throwaway, throwaway.record(pivot=step(pivot=True)(nothing), act=act))


def not_taken_up(throwaway):
    """The code that ran meanwhile could not take it up; the code that runs now can."""
    handle = record(Scripted, {})
    rename(throwaway.engine, handle, "first", "former_first")
    until_asked(throwaway, handle)
    rename(throwaway.engine, handle, "former_first", "first")
    return handle


def condition_raises(throwaway):
    """The author's own condition cannot be asked."""
    act = step(irreversible=True, when=lambda saga: 1 / 0)(nothing)
    return until_asked(throwaway, throwaway.record(act=act))


def still_not_taken_up(throwaway):
    handle = not_taken_up(throwaway)
    rename(throwaway.engine, handle, "first", "former_first")
    return handle


def unknown_kind(throwaway):
    handle = record(Scripted, {})
    with throwaway.engine.database.transaction() as connection:
        former = text("UPDATE sagas SET name = 'former', next_at = saga_now() - interval '601 s' WHERE id = :id")
        connection.execute(former, {"id": handle.id})
    recover(throwaway.engine)
    return handle


def process_gone(throwaway):
    orchestrator = SagaOrchestrator("by_hand", engine=throwaway.engine)
    orchestrator.execute_step("reserve", lambda: 1, lambda: None)
    orchestrator._begin("charge")
    return until_asked(throwaway, SagaHandle(orchestrator.id, engine=throwaway.engine))


def process_could_not_undo(throwaway):
    orchestrator = SagaOrchestrator("by_hand", engine=throwaway.engine, undo_retry=ONCE)
    orchestrator.execute_step("reserve", lambda: 1, fails_then_works(ValueError(), 9))
    with pytest.raises(SagaCompensationException):
        orchestrator.execute_step("charge", fails_then_works(ValueError()))
    return SagaHandle(orchestrator.id, engine=throwaway.engine)


def rename(engine, handle, old, new):
    with engine.database.transaction() as connection:
        connection.execute(
            text("UPDATE saga_steps SET name = :new WHERE saga_id = :id AND name = :old"),
            {"id": handle.id, "old": old, "new": new},
        )


TAKES = {
    exhausted_local: ("every attempt died at work", {R, S, D, U, A}),
    exhausted_external: ("every attempt died at work", {R, S, D, U, A}),
    exhausted_needed: ("every attempt died at work", {R, U, A}),
    exhausted_needed_by_hand: ("every attempt died at work", {R, D, U, A}),
    past_the_pivot: ("failed past the pivot", {R, S, D, A}),
    in_doubt_forward: ("nothing can tell whether it happened", {R, D, U, A}),
    in_doubt_past_the_pivot: ("nothing can tell whether it happened", {R, D, U, A}),
    in_doubt_backward: ("nothing can tell whether it happened", {R, D, U, A}),
    unrecorded: ("done outside, refused here", {R, S, A}),
    not_undone: ("an undo failed", {R, U, A}),
    not_undone_locally: ("an undo failed", {R, U, A}),
    tried_in_vain: ("tried again in vain", {R, S, D, A}),
    not_even_marked: ("it could not even be marked for retry", {R, S, D, A}),
    not_taken_up: ("the code cannot take it up", {R, A}),
    condition_raises: ("the code cannot take it up", {R, A}),
    still_not_taken_up: ("the code cannot take it up", {A}),
    unknown_kind: ("no code knows this kind of saga", {A}),
    process_gone: ("the process that ran it is gone", {D, U, A}),
    process_could_not_undo: ("an undo failed", {U, A}),
}
"""What a case is about, its reason, and the remedies that make sense."""


def name(value) -> str:
    """Name a way into review, or a remedy, in the id of a test."""
    return getattr(value, "__name__", str(value))


def settle(engine, number: int, remedy: Remedy, **more):
    """Settle a case with a remedy, signed, and with a reference where that remedy wants one."""
    reference = {"reference": "by-hand-1"} if remedy is Remedy.MARK_DONE else {}
    return getattr(engine.review, remedy)(number, **{**reference, **SIGNED, **more})
