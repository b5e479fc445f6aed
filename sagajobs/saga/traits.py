"""What the steps of a saga are, as it goes on record, and whether other code can finish what was begun by these.

Each step is a few letters, `x` for external, `u` for one that has an undo, and so on; their names stand in the rows of
the steps. What was given up is named, then, where a hash could only say that something has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sagajobs.saga.declaration import Step, base_and_item

if TYPE_CHECKING:
    from sagajobs.saga.records import SagaRecord

_PLAIN = "-"
"""A step of which nothing is to be said: local, no undo. Whether it may fail is for the code that carries it out."""


@dataclass(frozen=True, slots=True)
class _Trait:
    """One thing that a step is or has.

    Attributes:
        letter: as it goes on record.
        words: in a sentence about the step.
        of: tells whether a step is so.
        may_come: a saga that was begun without it can be finished with it. Never the other way round: what was begun
            in reliance on an undo, a probe or a second chance would find none.
    """

    letter: str
    words: str
    of: Callable[[Step], bool]
    may_come: bool = False


_TRAITS = (
    _Trait("x", "is external", lambda step: step.external),
    _Trait("e", "is done once for each item", lambda step: step.each is not None),
    _Trait("b", "runs beside the one before it", lambda step: step.parallel),
    _Trait("v", "is the pivot", lambda step: step.pivot),
    _Trait("u", "has an undo", lambda step: step.undo is not None, may_come=True),
    _Trait("p", "has a probe", lambda step: step.finder is not None, may_come=True),
    _Trait("d", "has a degradation", lambda step: step.degraded is not None, may_come=True),
)


def traits(steps: Sequence[Step]) -> str:
    """Return what goes on record with each saga of these steps, such as `-,u,xup,-`."""
    return ",".join("".join(trait.letter for trait in _TRAITS if trait.of(step)) or _PLAIN for step in steps)


def difference(record: SagaRecord, steps: Sequence[Step]) -> str | None:
    """Return why a recorded saga cannot be finished by the code of these steps, None if it can.

    Going on by another version's steps could leave one out, and `compensated` would be said of a saga whose vanished
    step still stands.
    """
    recorded = tuple(dict.fromkeys(base_and_item(name)[0] for name in record.steps))
    known = tuple(step.name for step in steps)
    if recorded != known:
        had, has = ", ".join(recorded), ", ".join(known)
        return f"it was recorded with the steps {had}, and this version of the code has {has}"
    letters = record.definition.split(",")
    if len(letters) != len(known):
        return f"what its steps are was not recorded in a way that can be read ({record.definition!r:.40})"
    return next((one for had, step in zip(letters, steps, strict=True) for one in _changes(had, step)), None)


def _changes(had: str, step: Step) -> Iterator[str]:
    for trait in _TRAITS:
        was = trait.letter in had
        if was and not trait.of(step):
            yield f"as recorded, step {step.name} {trait.words}; in this version of the code that is not so"
        elif not was and not trait.may_come and trait.of(step):
            yield f"in this version of the code, step {step.name} {trait.words}; as recorded that was not so"
