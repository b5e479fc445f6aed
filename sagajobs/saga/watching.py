"""Who looks on while sagas are started, worked on and swept: error reports, traces. The engine only knows that one may.

A watcher sees names, ids, numbers and exceptions, never an input or a result; what it raises is logged and goes no
further: a saga must not fail because somebody could not be told of it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sagajobs.saga.sweeps.sweep import Noted, Sweep

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """One thing done for one saga.

    Attributes:
        what: `start`, `hint` (by the sweep), or, of a step, `step`, `undo` or `probe`.
        saga: name of its kind.
        saga_id: which saga.
        step: name of the step, if it is about one.
        attempt: number of the try, from 1; of a hint, how many there were since the last progress.
        trace: what a watcher put on record when the saga was started (`Watcher.doing`).
        foreseen: tells whether an exception is one that the step's author, or the engine, has a class for; any other
            one is a mistake in the code.
    """

    what: str
    saga: str
    saga_id: str
    step: str | None = None
    attempt: int = 1
    trace: str | None = None
    foreseen: Callable[[BaseException], bool] = field(default=lambda _error: True, repr=False)


class Watcher:
    """One who looks on; this one does nothing about it."""

    def doing(self, doing: Doing) -> AbstractContextManager[str | None]:
        """Return what is entered while something is done; an exception of the work passes through it.

        What entering it returns at a saga's start goes on record with the saga, at most 55 characters, and comes back
        as `Doing.trace` whenever something is done for that saga later on.
        """
        del doing
        return contextlib.nullcontext()

    def swept(self, sweep: Sweep, noted: Noted) -> None:
        """Hear of a sweep that was run."""

    def broke_off(self, sweep: Sweep, error: Exception) -> None:
        """Hear of a sweep that broke off."""


class Watchers:
    """All who look on in this process; nobody, unless somebody joins."""

    def __init__(self) -> None:
        self._watchers: list[Watcher] = []

    def join(self, watcher: Watcher) -> None:
        """Have one more look on."""
        self._watchers.append(watcher)

    def leave(self, watcher: Watcher) -> None:
        """Have one look on no longer."""
        self._watchers.remove(watcher)

    def doing(self, doing: Doing) -> AbstractContextManager[str | None]:
        """Return what is entered while something is done; yields the trace of the first who has one."""
        return self._entered(doing) if self._watchers else contextlib.nullcontext()

    @contextmanager
    def _entered(self, doing: Doing) -> Iterator[str | None]:
        with ExitStack() as stack:
            traces = [stack.enter_context(_unharmed(watcher.doing(doing))) for watcher in self._watchers]
            yield next((trace for trace in traces if trace is not None), None)

    def swept(self, sweep: Sweep, noted: Noted) -> None:
        """Tell all of a sweep that was run."""
        for watcher in self._watchers:
            with _logged():
                watcher.swept(sweep, noted)

    def broke_off(self, sweep: Sweep, error: Exception) -> None:
        """Tell all of a sweep that broke off."""
        for watcher in self._watchers:
            with _logged():
                watcher.broke_off(sweep, error)


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - it looks on, it does not take part
        log.warning("somebody who looks on failed: %s", type(error).__name__)


@contextmanager
def _unharmed(watched: AbstractContextManager[str | None]) -> Iterator[str | None]:
    """Enter and leave a watcher's context; only the work's own exceptions come out of it."""
    trace = None
    with _logged():
        trace = watched.__enter__()
    try:
        yield trace
    except BaseException as error:
        with _logged():
            watched.__exit__(type(error), error, error.__traceback__)
        raise
    with _logged():
        watched.__exit__(None, None, None)
