"""What every act of a person on a saga shares: who and why, and telling the workers afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sagajobs.errors import InvalidInput
from sagajobs.saga.states import FORWARD, SagaState
from sagajobs.saga.store import Store

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

LONGEST_NAME = 200
"""Characters of an operator's name."""

LONGEST_REASON = 2000
"""Characters of his reason: a paragraph, not a log."""


class Signature(NamedTuple):
    """Who acts and why, as it goes on record with the act."""

    who: str
    why: str

    def detail(self, **more: Any) -> dict[str, Any]:
        """Return it as an event's detail, together with `more`."""
        return {**more, "who": self.who, "why": self.why}


def signed(who: str, why: str) -> Signature:
    """Return who and why; raises `InvalidInput`, one line per problem, if either is missing or cannot be stored."""
    problems = []
    who, why = str(who).strip(), str(why).strip()
    if not who.isprintable() or not 0 < len(who) <= LONGEST_NAME:
        problems.append(f"who: say who you are, in 1 to {LONGEST_NAME} printable characters")
    storable = all(character.isprintable() or character in "\n\t" for character in why)
    if not storable or not 0 < len(why) <= LONGEST_REASON:
        problems.append(f"why: give the reason, in 1 to {LONGEST_REASON} characters")
    if problems:
        raise InvalidInput("; ".join(problems), problems)
    return Signature(who, why)


def carry_on(engine: Engine, saga_id: str) -> None:
    """Hint at a saga that an operator has set going again; without a publisher, or lost, the sweep does it."""
    if engine.publisher is None:
        return
    with engine.database.reading() as connection:
        record = Store(connection).read(saga_id)
    kind = engine.kind_of(record)
    if kind is None:
        return
    if record.state in FORWARD:
        engine.publisher.steps(kind, saga_id, record.open_steps)
    elif record.state is SagaState.COMPENSATING:
        engine.publisher.compensation(kind, saga_id)


def next_look(engine: Engine) -> float:
    """Return the seconds until the sweep should look after a saga that was set going: at once if nobody is told."""
    return 0.0 if engine.publisher is None else engine.executor.stall_after
