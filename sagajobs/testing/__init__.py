"""The testing kit: for the author of any saga, one-line checks that try to break it (docs/testing.md).

A surface like the command line: it knows the engine and its root, and nothing of what a saga is about. The names below
are loaded when they are first used, as pytest loads the plug-in into runs that have nothing to do with sagas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagajobs.testing.case import Case
    from sagajobs.testing.checks import (
        CHECKS,
        every_call_succeeds_then_times_out,
        every_message_duplicated,
        every_message_lost,
        every_prefix_ends_well,
        every_step_fails,
        every_step_runs_twice,
        every_undo_fails,
        every_undo_runs_twice,
        name,
    )
    from sagajobs.testing.clock import Clock
    from sagajobs.testing.death import dies_at_every_point
    from sagajobs.testing.simulator import Simulator
    from sagajobs.testing.worker import Worker

__all__ = [
    "CHECKS",
    "Case",
    "Clock",
    "Simulator",
    "Worker",
    "dies_at_every_point",
    "every_call_succeeds_then_times_out",
    "every_message_duplicated",
    "every_message_lost",
    "every_prefix_ends_well",
    "every_step_fails",
    "every_step_runs_twice",
    "every_undo_fails",
    "every_undo_runs_twice",
    "name",
]

_HOMES = {
    "Case": "case",
    "Clock": "clock",
    "Simulator": "simulator",
    "Worker": "worker",
    "dies_at_every_point": "death",
}
"""The modules of the names above; all others are in `checks`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'checks')}")
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
