"""What is in flight, held against the code in hand: which sagas on record could it not finish?

Asked before a deployment, with the new code and the live database. It reads and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from sagajobs.saga.records import SagaRecord, StepGlance
from sagajobs.saga.states import SagaState, StepState

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

BATCH = 500
"""Sagas read at a time: however many are in flight, so many are in memory."""

UNKNOWN = "no code here knows this kind of saga"

IN_FLIGHT = text("""
    SELECT g.id, g.name, g.version, g.definition, g.state, g.input,
        (SELECT array_agg(s.name ORDER BY s.position) FROM saga_steps s WHERE s.saga_id = g.id) AS steps
    FROM sagas g
    WHERE g.state IN ('pending', 'running', 'partial', 'compensating', 'paused', 'manual_review_required')
        AND g.state <> 'completed' AND g.ended_at IS NULL AND g.kind = 'declared'
""")
"""Sagas that have not ended, those that are paused or wait for a person among them; found by the index on the state,
which is partial (`state <> 'completed'`). An orchestrated saga is its own process's: no code takes it over."""


@dataclass(slots=True)
class Stranded:
    """Sagas that the code in hand could not finish, for one reason.

    Attributes:
        name, version: as recorded.
        reason: why; one line, without a value of anybody's input.
        example: the id of one of them.
        states: how many are in which state.
    """

    name: str
    version: int
    reason: str
    example: str
    states: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """How many there are."""
        return self.states.total()


@dataclass(frozen=True, slots=True)
class Held:
    """What came of a check: how many sagas are in flight, and which of them are stranded."""

    in_flight: int
    stranded: tuple[Stranded, ...]


def check(engine: Engine) -> Held:
    """Hold every saga in flight against the code in hand.

    Args:
        engine: with all sagas registered that the workers will know.
    """
    found: dict[tuple[str, int, str], Stranded] = {}
    in_flight = 0
    with engine.database.transaction() as connection:
        for record in _records(connection):
            in_flight += 1
            kind = engine.kind_of(record)
            why = UNKNOWN if kind is None else kind.unfit(record)
            if why is not None:
                new = Stranded(record.name, record.version, why, record.id)
                found.setdefault((new.name, new.version, new.reason), new).states[record.state] += 1
    return Held(in_flight, tuple(sorted(found.values(), key=lambda one: (one.name, one.version, one.reason))))


def _records(connection: Connection) -> Iterator[SagaRecord]:
    streaming = connection.execution_options(stream_results=True, yield_per=BATCH)
    for row in streaming.execute(IN_FLIGHT).mappings():
        yield _record(row)


def _record(row: Any) -> SagaRecord:
    """Return of a saga what says whether it can be taken up."""
    steps = [StepGlance(name, StepState.WAITING, 0, position) for position, name in enumerate(row["steps"] or ())]
    return SagaRecord(
        id=str(row["id"]),
        name=row["name"],
        version=row["version"],
        definition=row["definition"],
        kind="declared",
        state=SagaState(row["state"]),
        stage=0,
        input=row["input"],
        hints=0,
        error=None,
        useful_until=None,
        late=False,
        steps={step.name: step for step in steps},
    )
