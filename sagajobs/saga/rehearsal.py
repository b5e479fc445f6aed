"""What would follow: the steps or undos that a saga would carry out next, rehearsed up to the first change outside.

Nothing is written and nothing outside is changed. A local step is only described. An external one runs with the
services that its saga hands out for rehearsals (`Saga.rehearse`): they read, and put on a list what they would change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sagajobs.errors import EffectGone, RehearsalOver
from sagajobs.saga import plan
from sagajobs.saga.backward import needs_undo
from sagajobs.saga.declaration import Step
from sagajobs.saga.definition import Saga
from sagajobs.saga.records import SagaRecord
from sagajobs.saga.states import FORWARD, SagaState, StepState


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One act that would follow.

    Attributes:
        step: name of the step.
        act: `run`, `look` or `undo`.
        external: it acts outside the database.
        says: what it is, or what came of rehearsing it.
        calls: what it would change outside, as far as can be told: `method`, `path`, `body`.
    """

    step: str
    act: str
    external: bool
    says: str
    calls: tuple[Mapping[str, Any], ...] = ()


class Rehearsal:
    """Rehearses what would follow on a saga that stands as `record` says.

    Args:
        kind: the saga's class.
        record: where it would stand.
        private: show what is about a person.
    """

    def __init__(self, kind: type[Saga], record: SagaRecord, *, private: bool) -> None:
        self._kind = kind
        self._record = record
        self._private = private

    def follows(self) -> tuple[Foreseen, ...]:
        """Return what would follow: the next stage, or the undos down to where an answer decides."""
        try:
            if self._record.state in FORWARD:
                return tuple(self._run(self._kind.definition.step(name)) for name in self._record.open_steps)
            if self._record.state is SagaState.COMPENSATING:
                return tuple(self._undos())
        except Exception as error:  # noqa: BLE001 - a condition that raises is a reason to ask a person, not to fail him
            says = f"what follows cannot be told: {type(error).__name__}"
            return (Foreseen(self._record.at_work or "-", "run", external=False, says=says),)
        return ()

    def instance(self) -> tuple[Saga, list[Mapping[str, Any]] | None]:
        """Return the saga with services for a rehearsal, and their list; without a list if it has none such."""
        saga = self._kind.restore(self._record.id, self._record.input, self._record.results)
        rehearsed = self._kind.rehearse(self._kind.services)
        if rehearsed is None:
            return saga, None
        services, calls = rehearsed
        saga.__dict__["services"] = services  # this instance's alone: the class keeps the ordinary ones
        return saga, calls

    def _run(self, step: Step) -> Foreseen:
        state = self._record.steps[step.name].state
        saga, _ = self.instance()
        if state is StepState.UNKNOWN or (state is StepState.RUNNING and step.finder is not None):
            return self._look(step)
        if step.when is not None and not step.when(saga, *step.items):
            return Foreseen(step.name, "run", step.external, "skipped, as its condition says")
        return self._act("run", step, step.method, self._key(step))

    def _look(self, step: Step) -> Foreseen:
        if step.finder is None:
            return self._act("run", step, step.method, self._key(step))
        return self._act("look", step, step.finder.look, self._key(step))

    def _undos(self) -> list[Foreseen]:
        found: list[Foreseen] = []
        record = self._record
        while True:
            saga = self._kind.restore(record.id, record.input, record.results)
            step = plan.next_undo(record, self._kind.definition, _undoable(saga))
            if step is None:
                return found
            glance = record.steps[step.name]
            if glance.state in (StepState.WAITING, StepState.RUNNING, StepState.UNKNOWN):  # waiting: in doubt
                if step.external:
                    return [*found, self._look(step)]  # what it sees decides what there is to undo
                left = StepState.FAILED
            elif step.undo is None:
                return found
            else:
                found.append(self._act("undo", step, step.undo.method, glance.output))
                left = StepState.UNDONE
            record = replace(record, steps={**record.steps, step.name: replace(glance, state=left)})

    def _act(self, act: str, step: Step, method: Callable[..., Any], argument: Any) -> Foreseen:
        does = (method.__doc__ or "not described").strip().partition("\n")[0]
        if not step.external:
            return Foreseen(step.name, act, external=False, says=does)
        saga, calls = self.instance()
        if calls is None:
            return Foreseen(step.name, act, external=True, says=f"{does} (which calls it makes is not known)")
        wait = step.hold(saga) if step.hold is not None else 0.0
        came = self._rehearse(saga, act, method, argument, step)
        if wait > 0:
            came += f"; held back for {wait:.0f} s, as what it needs is away"
        return Foreseen(step.name, act, True, f"{does} ({came})", tuple(map(self._shown, calls)))

    def _rehearse(self, saga: Saga, act: str, method: Callable[..., Any], argument: Any, step: Step) -> str:
        try:
            result = method(saga, argument, *step.items)
        except RehearsalOver:
            return "then as it is answered"
        except EffectGone:
            return "it was done, and is gone"
        except Exception as error:  # noqa: BLE001 - whatever it is, the step would meet it as well
            said = f": {error}" if self._private else ""
            return f"it would fail now, before any change: {type(error).__name__}{said}"
        if act == "look":
            return "it sees nothing now" if result is None else "it finds it now"
        return "it would change nothing"

    def _shown(self, call: Mapping[str, Any]) -> dict[str, Any]:
        body = call["body"] if self._private else call["masked"]
        return {"method": call["method"], "path": call["path"], "body": body}

    def _key(self, step: Step) -> str:
        return f"{self._record.id}/{step.name}"


def _undoable(saga: Saga) -> Callable[[Step], bool]:
    return lambda step: needs_undo(saga, step)
