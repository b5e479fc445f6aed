"""What the table says, as values: a saga, the states of its steps, and one step looked at closely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from sagajobs.saga.declaration import base_and_item
from sagajobs.saga.states import SagaState, StepState

_OPEN = (StepState.WAITING, StepState.RUNNING, StepState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class StepGlance:
    """A step as seen in passing.

    Attributes:
        name, state, stage, position, output, attempts: as in the table.
        leased: a worker's lease on it is still running.
        in_doubt: an earlier attempt may have got through, and no probe can tell.
        finished: when it was done, seconds since the epoch.
    """

    name: str
    state: StepState
    stage: int
    position: int
    output: Any = None
    attempts: int = 0
    leased: bool = False
    in_doubt: bool = False
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class SagaRecord:
    """A saga and a glance at each of its steps.

    Attributes:
        late: its `useful_until` has passed.
        hints: how often the sweep has re-sent a hint since the last progress.
        trace: what a watcher put on record at the start (`watching`).
        steps: by name, in the order of their positions.
    """

    id: str
    name: str
    version: int
    definition: str
    kind: str
    state: SagaState
    stage: int
    input: Any
    hints: int
    error: Mapping[str, Any] | None
    useful_until: datetime | None
    late: bool
    trace: str | None = None
    steps: Mapping[str, StepGlance] = field(default_factory=dict)

    @property
    def results(self) -> dict[str, Any]:
        """What the steps that are done returned; of a step that is done for each of several items, by item."""
        done = (StepState.DONE, StepState.UNDOING, StepState.UNDO_FAILED)
        results: dict[str, Any] = {}
        for step in self.steps.values():
            if step.state in done:
                base, item = base_and_item(step.name)
                if item is None:
                    results[base] = step.output
                else:
                    results.setdefault(base, {})[item] = step.output
        return results

    def in_stage(self, stage: int) -> tuple[str, ...]:
        """Names of the steps of a stage, in order."""
        return tuple(step.name for step in self.steps.values() if step.stage == stage)

    @property
    def open_steps(self) -> tuple[str, ...]:
        """Names of the steps of the present stage that are not over."""
        return tuple(name for name in self.in_stage(self.stage) if self.steps[name].state in _OPEN)

    @property
    def completed_steps(self) -> tuple[str, ...]:
        """Names of the steps that were done at some time, undone since or not."""
        done = (StepState.DONE, StepState.UNDOING, StepState.UNDONE, StepState.UNDO_FAILED)
        return tuple(step.name for step in self.steps.values() if step.state in done and step.finished is not None)

    @property
    def at_work(self) -> str | None:
        """Name of the step in whose stage the saga stands, None past the last one."""
        return next((step.name for step in self.steps.values() if step.stage == self.stage), None)

    @property
    def failed_step(self) -> str | None:
        """Name of the step whose failure turned the saga round."""
        return self.error.get("step") if self.error else None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step, its row locked by this transaction.

    Attributes:
        absences: how often in a row a probe saw nothing; `absent_for` seconds since the first of them.
        landing: seconds for which the call of a worker that is gone may still take effect, 0 if none can.
        leased: a worker's lease is still running; `early`: it is not due yet; `wait` seconds until either changes.
    """

    name: str
    state: StepState
    stage: int
    attempts: int
    undo_attempts: int
    probes: int
    absences: int
    absent_for: float
    landing: float
    fence: int
    output: Any
    error: Mapping[str, Any] | None
    leased: bool
    early: bool
    wait: float


@dataclass(frozen=True, slots=True)
class Look:
    """A saga and, locked, one of its steps; `step` is None while another transaction holds it."""

    saga: SagaRecord
    step: StepRecord | None


def saga_record(row: RowMapping) -> SagaRecord:
    """Return the saga in a row of `READ` or `LOOK`."""
    glances = [
        StepGlance(
            name=name,
            state=StepState(step["state"]),
            stage=step["stage"],
            position=step["position"],
            output=step["output"],
            attempts=step["attempts"],
            leased=step["leased"],
            in_doubt=step["in_doubt"],
            finished=step["finished"],
        )
        for name, step in (row["steps"] or {}).items()
    ]
    return SagaRecord(
        id=str(row["id"]),
        name=row["name"],
        version=row["version"],
        definition=row["definition"],
        kind=row["kind"],
        state=SagaState(row["state"]),
        stage=row["stage"],
        input=row["input"],
        hints=row["hints"],
        error=row["error"],
        useful_until=row["useful_until"],
        late=bool(row["late"]),
        trace=row["trace"],
        steps={step.name: step for step in sorted(glances, key=lambda step: step.position)},
    )


def step_record(row: RowMapping) -> StepRecord | None:
    """Return the locked step in a row of `LOOK`, None if another transaction holds it."""
    if row["step_name"] is None:
        return None
    return StepRecord(
        name=row["step_name"],
        state=StepState(row["step_state"]),
        stage=row["step_stage"],
        attempts=row["attempts"],
        undo_attempts=row["undo_attempts"],
        probes=row["probes"],
        absences=row["absences"],
        absent_for=float(row["absent_for"] or 0.0),
        landing=max(float(row["landing"] or 0.0), 0.0),
        fence=row["fence"],
        output=row["output"],
        error=row["step_error"],
        leased=row["leased"],
        early=row["early"],
        wait=max(float(row["wait"] or 0.0), 0.0),
    )
