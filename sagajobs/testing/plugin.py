"""The pytest plug-in: fixtures with real servers, workers and virtual time, and `saga_case` for the checks.

Nothing is imported, started or set before a fixture is asked for: pytest loads this into every run on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sagajobs.saga import Saga
    from sagajobs.testing.case import Case
    from sagajobs.testing.clock import Clock
    from sagajobs.testing.simulator import Simulator
    from sagajobs.testing.stack import Stack
    from sagajobs.testing.worker import Worker


@pytest.fixture(scope="session")
def saga_stack() -> Iterator[Stack]:
    """The application on servers of this run's own: PostgreSQL, migrated, Redis, and the Cal.com simulator."""
    from sagajobs.testing.stack import own_servers  # noqa: PLC0415 - see above

    with own_servers() as stack:
        yield stack


@pytest.fixture
def saga_worker(saga_stack: Stack, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start Celery workers, on queues that are empty; all are stopped after the test. See `Worker` for the options."""
    from sagajobs.testing.worker import Worker  # noqa: PLC0415 - see above

    saga_stack.purge()
    started: list[Worker] = []

    def start(**options: Any) -> Worker:
        started.append(Worker(tmp_path, **options))
        return started[-1]

    yield start
    for worker in started:
        worker.ask_to_stop()
    for worker in started:
        worker.stop()


@pytest.fixture
def calcom_simulator(saga_stack: Stack) -> Iterator[Simulator]:
    """Cal.com's simulator, forgetting everything before the test, healed after it; the circuit to it is closed."""
    from sagajobs.root import circuit  # noqa: PLC0415 - see above
    from sagajobs.testing.simulator import Simulator  # noqa: PLC0415 - see above

    simulator, breaker = Simulator(saga_stack.calcom), circuit()
    simulator.reset()
    if breaker is not None:
        breaker.close()
    yield simulator
    simulator.heal()
    simulator.close()


@pytest.fixture
def saga_clock(saga_stack: Stack) -> Iterator[Clock]:
    """Virtual time: `leap(seconds)` moves what the database takes for it; it is right again after the test."""
    from sagajobs.testing.clock import Clock  # noqa: PLC0415 - see above

    clock = Clock(saga_stack.engine.database)
    yield clock
    clock.put_right()


@pytest.fixture
def saga_case(saga_stack: Stack, saga_clock: Clock, saga_worker: Callable[..., Worker]) -> Callable[..., Case]:
    """Make a `Case`: what the checks of `sagajobs.testing` need to know of a saga."""
    from sagajobs.errors import DefinitionError  # noqa: PLC0415 - see above
    from sagajobs.testing.case import Case  # noqa: PLC0415 - see above

    def make(
        kind: type[Saga],
        *,
        request: Callable[[int], Mapping[str, Any]],
        standing: Callable[[str], Sequence[Any]] = lambda _saga_id: (),
        invariants: Callable[[], None] = lambda: None,
    ) -> Case:
        if saga_stack.engine.kinds.get(kind.name) is not kind:
            raise DefinitionError(f"saga {kind.name} is not known to the engine: have its module register it")
        return Case(
            kind=kind,
            request=request,
            standing=standing,
            invariants=invariants,
            engine=saga_stack.engine,
            clock=saga_clock,
            workers=saga_worker,
        )

    return make
