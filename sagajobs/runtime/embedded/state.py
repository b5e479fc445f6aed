"""What ``server.json`` says about the server that a keeper runs."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import signal
    from pathlib import Path

_LOOK_EVERY = 0.02
"""Seconds between two looks at a process that is not our child, whose end cannot be awaited otherwise."""


@dataclass(frozen=True)
class ServerState:
    """A server's address and identity.

    Attributes:
        pid: its process id. started: when that process began (seconds since the epoch), which tells it from
        a later owner of its pid. url: its address, or None while it is not ready.
    """

    pid: int
    started: float
    url: str | None

    @classmethod
    def of(cls, pid: int, url: str | None) -> ServerState:
        """Describe the running process `pid`.

        Raises:
            psutil.NoSuchProcess: it has ended.
        """
        return cls(pid, psutil.Process(pid).create_time(), url)

    @classmethod
    def read(cls, path: Path) -> ServerState | None:
        """Read the file, or return None if there is none."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return cls(**json.loads(text))

    def write(self, path: Path) -> None:
        """Replace the file in one go: a reader, or a SIGKILL, never meets half of it."""
        draft = path.with_name(f"{path.name}.new")
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        draft.replace(path)

    def process(self) -> psutil.Process | None:
        """Return the process if it still runs; a later owner of its pid is not it."""
        try:
            process = psutil.Process(self.pid)
            return process if process.create_time() == self.started else None
        except psutil.NoSuchProcess:
            return None


def end_process(process: psutil.Process, how: signal.Signals, grace: float) -> None:
    """End a process that is not our child: `how` first, SIGKILL after `grace` seconds."""
    try:
        process.send_signal(how)
        if not _await_end(process, grace):
            process.kill()
            _await_end(process, grace)
    except psutil.NoSuchProcess:
        return


def _await_end(process: psutil.Process, timeout: float) -> bool:
    """Wait for a process that is not our child to end; False if it still runs after `timeout` seconds.

    A zombie counts as ended: where process 1 reaps nobody (many containers), it would stay one for ever.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY)
