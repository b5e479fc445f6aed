"""The user's side of an embedded server: hold the users' lock, find the server or have it started."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from typing import TYPE_CHECKING, Literal

from sagajobs.errors import ConfigurationError
from sagajobs.runtime.child import PACKAGE_ROOT, python_executable
from sagajobs.runtime.embedded.folders import Place
from sagajobs.runtime.embedded.locks import lock, open_lock, share, try_lock
from sagajobs.runtime.embedded.state import ServerState

if TYPE_CHECKING:
    from pathlib import Path

ComponentName = Literal["postgres", "redis", "simulator"]

_held: dict[Path, int] = {}
"""Descriptors that say "I use this server", by component folder; open until this process ends.

Forked children inherit them, which is right: a worker's pool uses the server as long as the pool lives.
"""


_lock = threading.RLock()
"""Held during an `acquire`, and during a fork.

A child forked by another thread in the middle of an `acquire` would hold the locks that are meant to be brief
for its whole life, and stop everybody else.
"""

os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def acquire(component: ComponentName, home: Path) -> str:
    """Return the URL of a private server, started if need be; it stays up for the life of this process.

    Cheap when the server runs, so ask again rather than keep the answer: asking also revives a server whose
    keeper was killed.

    Args:
        component: which server.
        home: folder for all embedded servers of this user; one server per component and home.

    Returns:
        ``postgresql+psycopg2://…``, ``unix://…`` (Redis protocol) or ``http://…``.

    Raises:
        ConfigurationError: the server cannot run here; one line that says why.
    """
    place = Place(home.expanduser().absolute(), component)
    place.create()
    with _lock:
        _hold(place)
        start, keeper = open_lock(place.start_lock), open_lock(place.keeper_lock)
        try:
            lock(start)  # waits while the server is started, restarted or stopped by somebody else
            if try_lock(keeper):
                return _start_keeper(place, start, keeper)
            state = ServerState.read(place.state)
        finally:
            os.close(keeper)
            os.close(start)
    if state is None or state.url is None:
        raise ConfigurationError(
            f"the keeper of the embedded {component} server does not say where it is; see {place.keeper_log}"
        )
    return state.url


def seen(component: ComponentName, home: Path) -> str | None:
    """Return where a private server runs, None if it does not; it is not started, and may stop at any time."""
    state = ServerState.read(Place(home.expanduser().absolute(), component).state)
    return None if state is None or state.process() is None else state.url


def _hold(place: Place) -> None:
    if place.folder in _held:
        return
    users = open_lock(place.users_lock)
    share(users)  # waits while a keeper that saw its last user go is stopping the server
    _held[place.folder] = users


def _start_keeper(place: Place, start: int, keeper: int) -> str:
    """Start a keeper that inherits both locks, and wait for its word."""
    report, report_end = os.pipe()
    with place.keeper_log.open("wb") as log:
        launcher = subprocess.Popen(  # noqa: S603 - our own module
            [
                *(python_executable(), "-m", "sagajobs.runtime.embedded", place.component, str(place.home)),
                *(str(start), str(keeper), str(report_end)),
            ],
            cwd=PACKAGE_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(start, keeper, report_end),
            start_new_session=True,
        )
    os.close(report_end)
    with open(report, encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor, not a path
        word = stream.read()
    launcher.wait()  # it has forked and gone, so that the keeper is nobody's zombie
    if not word:
        said = place.keeper_log.read_text(encoding="utf-8", errors="replace").splitlines() or ["no word"]
        raise ConfigurationError(
            f"the keeper of the embedded {place.component} server: {said[-1]} (log: {place.keeper_log})"
        )
    answer: dict[str, str] = json.loads(word)
    if "error" in answer:
        raise ConfigurationError(answer["error"])
    return answer["url"]
