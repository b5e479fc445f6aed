"""`Publisher`: whoever carries hints to the workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sagajobs.saga.definition import Saga


class Publisher(Protocol):
    """Whoever carries hints to the workers."""

    def add(self, kind: type[Saga]) -> None:
        """Get ready to carry hints for a kind of saga."""

    def steps(self, kind: type[Saga], saga_id: str, names: Sequence[str]) -> None:
        """Hint at steps of one stage of a saga, each with what follows on it."""

    def wake(self, kind: type[Saga], saga_id: str, name: str) -> None:
        """Hint, past whoever queues, that a saga has the lock which this step of it has waited for."""

    def compensation(self, kind: type[Saga], saga_id: str) -> None:
        """Hint that a saga is to be undone."""
