"""The demonstration's own home: a folder that is emptied at every start and kept afterwards."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from sagajobs.errors import ConfigurationError
from sagajobs.runtime.embedded.locks import open_lock, try_lock
from sagajobs.runtime.settings import PREFIX

MARKER = "sagajobs-demo"
"""A file of this name says that the folder is a demonstration's, and may be deleted."""

_PATIENCE = 20.0
_LOOK_EVERY = 0.1

TIMINGS = {
    # A call that hangs is given up after a second, and a dead worker's claim runs out after some eight.
    "CALCOM_CONNECT_TIMEOUT": "0.5",
    "CALCOM_READ_TIMEOUT": "1",
    # The simulator takes any number of calls; what is made to fail fails for seconds, not for minutes.
    "CALCOM_QUOTA": "0",
    "CALCOM_CIRCUIT_RESET": "2",
    "STALL_AFTER": "2",
    "SWEEP_INTERVAL": "0.5",
    "WORKER_CONCURRENCY": "2",
}
"""Settings of the demonstration: those of production are for networks, these for people who wait."""


def remove_home(home: Path) -> None:
    """Remove the folder, if there is one, once the servers of an earlier demonstration have stopped.

    Raises:
        ConfigurationError: it is not a demonstration's, or somebody still uses its servers.
    """
    if home.exists():
        if not (home / MARKER).exists():
            raise ConfigurationError(f"SAGAJOBS_HOME: {home} is there and is no demonstration's; move it away")
        _await_servers(home)
        shutil.rmtree(home)


def fresh_home(home: Path) -> None:
    """Make the folder anew, empty; raises as `remove_home`."""
    remove_home(home)
    home.mkdir(mode=0o711)
    (home / MARKER).touch()


def _await_servers(home: Path) -> None:
    """Wait until no server runs on the folder: the last one's end takes a moment after its last user's."""
    give_up_at = time.monotonic() + _PATIENCE
    for lock in sorted(home.glob("*/keeper.lock")):
        descriptor = open_lock(lock)
        try:
            while not try_lock(descriptor):
                if time.monotonic() > give_up_at:
                    raise ConfigurationError(f"the servers in {home} are still in use; end the program that uses them")
                time.sleep(_LOOK_EVERY)
        finally:
            os.close(descriptor)


def move_in(home: Path) -> None:
    """Make this process, and its children, live in the demonstration's home and nowhere else.

    The servers that are set by URL are left alone: nobody wants faults and killed workers there. Neither is a
    celeryconfig.py of the current folder read, or Celery's own variables, which may name another broker.
    """
    for name in list(os.environ):
        if name.startswith((PREFIX, "CELERY_", "FLOWER_")):
            del os.environ[name]
    os.environ[f"{PREFIX}HOME"] = str(home)
    os.environ.update({f"{PREFIX}{name}": value for name, value in TIMINGS.items()})
    os.chdir(home)
