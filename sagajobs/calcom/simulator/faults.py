"""Faults to order: which calls go wrong, how, and whether before or after the work is done."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Operation = Literal[
    "create", "get", "list", "cancel", "reschedule", "confirm", "decline", "reassign", "location", "guests",
    "add_attendee", "remove_attendee", "mark_absent", "slots", "any",
]  # fmt: skip
Kind = Literal["timeout", "drop", "http_500", "http_503", "http_524", "rate_limit", "slow", "malformed"]

# Seconds, where a rule does not say: how long a silent call is held at most, how slow a slow one is, and
# when a rate limit says that it will be over.
_SECONDS: dict[str, float] = {"timeout": 120.0, "slow": 1.0, "rate_limit": 60.0}


class FaultRule(BaseModel):
    """What was asked for.

    Attributes:
        operation: the calls it is for; "any" means every call of the API, those without a name of their own too.
        kind: what goes wrong.
        when: "before" the work, which is then not done, or "after" it. A rate limit always comes before, as no real
            one comes after.
        count: so many calls go wrong, then no more.
        probability: instead of a count, each call goes wrong with this chance, for good.
        seed: makes the sequence of chances repeatable; drawn where not given, and told in the answer.
        seconds: how long a "slow" call takes, how long a "timeout" is held, what a "rate_limit" says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: Operation
    kind: Kind
    when: Literal["before", "after"] = "before"
    count: int | None = Field(default=None, ge=1)
    probability: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    seconds: float | None = Field(default=None, gt=0, le=3600)

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if data.get("kind") == "rate_limit":
            data["when"] = "before"
        if data.get("probability") is not None and data.get("seed") is None:
            data["seed"] = secrets.randbelow(2**32)
        if data.get("seconds") is None and data.get("kind") in _SECONDS:
            data["seconds"] = _SECONDS[data["kind"]]
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.count is None) == (self.probability is None):
            raise ValueError("give either count or probability")
        if self.seed is not None and self.probability is None:
            raise ValueError("seed goes with probability")
        if self.seconds is not None and self.kind not in _SECONDS:
            raise ValueError(f"seconds goes with {', '.join(_SECONDS)}")
        return self


@dataclass(slots=True)
class _Active:
    rule: FaultRule
    chances: random.Random
    fired: int = 0

    def fires(self) -> bool:
        rule = self.rule
        hit = self.fired < rule.count if rule.count is not None else self._drawn()
        self.fired += hit
        return hit

    def _drawn(self) -> bool:
        return self.chances.random() < (self.rule.probability or 0)


@dataclass(slots=True)
class Faults:
    """The rules in force; of several that fit a call, the first that fires counts."""

    _active: list[_Active] = field(default_factory=list)

    def add(self, rule: FaultRule) -> None:
        """Put a rule in force, after those that are."""
        self._active.append(_Active(rule, random.Random(rule.seed)))  # noqa: S311 - repeatable on purpose

    def clear(self) -> int:
        """Drop all rules and return how many there were."""
        count = len(self._active)
        self._active.clear()
        return count

    def pick(self, operation: str) -> FaultRule | None:
        """Return the fault that hits this call, or None; a counted one is used up by that."""
        for active in self._active:
            if active.rule.operation in {operation, "any"} and active.fires():
                return active.rule
        return None

    def to_json(self) -> list[dict[str, Any]]:
        """Return the rules, each with how often it fired."""
        return [{**active.rule.model_dump(), "fired": active.fired} for active in self._active]
