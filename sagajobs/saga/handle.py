"""`SagaHandle`: what a caller holds of a saga, made from nothing but its id."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from sagajobs.errors import ConfigurationError, SagaNotFinished
from sagajobs.saga import control
from sagajobs.saga.states import UNFINISHED, SagaState
from sagajobs.saga.store import Store

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine
    from sagajobs.saga.records import SagaRecord

FIRST_POLL, LAST_POLL = 0.02, 0.5
"""Seconds between two looks while waiting: at first, and in the long run.

Polling, not LISTEN: a NOTIFY takes a lock that makes all commits of the database queue up behind each other.
"""

_default: Engine | None = None


def set_default_engine(engine: Engine) -> None:
    """Name the engine of handles that are made from an id alone."""
    global _default  # noqa: PLW0603 - one application, one engine
    _default = engine


def default_engine() -> Engine:
    """Return the engine of this application; raises `ConfigurationError` if there is none yet."""
    if _default is None:
        raise ConfigurationError("no engine is set up in this process: import sagajobs.root first")
    return _default


class SagaHandle:
    """A saga, from its id, in any process.

    Args:
        saga_id: as `enqueue` gave it out.
        engine: None for the application's own.
        created: False if an idempotency key led to a saga that was started before.
    """

    def __init__(self, saga_id: str, *, engine: Engine | None = None, created: bool = False) -> None:
        self.id = str(saga_id)
        self.created = created
        self._engine = engine

    def __repr__(self) -> str:
        return f"SagaHandle({self.id!r})"

    @property
    def engine(self) -> Engine:
        """The engine that the saga belongs to."""
        return self._engine or default_engine()

    def record(self) -> SagaRecord:
        """Return what the table says of it; raises `SagaNotFound`."""
        with self.engine.database.reading() as connection:
            return Store(connection).read(self.id)

    def status(self) -> SagaState:
        """Return its state; raises `SagaNotFound`."""
        with self.engine.database.reading() as connection:
            return Store(connection).status(self.id)

    def public_status(self) -> str:
        """Return what a customer may be told of it, in the words of its kind."""
        record = self.record()
        kind = self.engine.kind_of(record)
        return str(record.state) if kind is None else kind.public_status(record)

    def wait(self, timeout: float = 30.0) -> SagaState:
        """Wait until it has come to rest (ended, or waiting for a person) and return its state.

        Raises:
            SagaNotFinished: `timeout` seconds were over first.
        """
        give_up_at = time.monotonic() + timeout
        pause, poll = threading.Event(), FIRST_POLL
        while True:
            state = self.status()
            if state not in UNFINISHED:
                return state
            left = give_up_at - time.monotonic()
            if left <= 0:
                raise SagaNotFinished(f"saga {self.id} is still {state} after {timeout:g} s", saga_id=self.id)
            pause.wait(min(poll, left))
            poll = min(poll * 1.5, LAST_POLL)

    def pause(self, *, who: str, why: str) -> SagaState:
        """Let nothing more of it begin until it is resumed; see `control.pause`."""
        return control.pause(self.engine, self.id, who=who, why=why)

    def resume(self, *, who: str, why: str) -> SagaState:
        """Let it go on where it was paused; see `control.resume`."""
        return control.resume(self.engine, self.id, who=who, why=why)

    def cancel(self, *, who: str, why: str) -> SagaState:
        """Undo it as if it had failed; see `control.cancel`."""
        return control.cancel(self.engine, self.id, who=who, why=why)

    def result(self) -> Any:
        """Return what the completed saga came to.

        Raises:
            SagaException: it failed and was undone.
            SagaCompensationException: it failed and a person must look at it.
            SagaNotFinished: it is still under way.
        """
        return self.engine.settle_up(self.record())
