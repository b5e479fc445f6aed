"""One child process: started, awaited, stopped; with its log, and tied to our own life."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sagajobs.errors import SagajobsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_T = TypeVar("_T")

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
"""The folder that the package `sagajobs` lies in: programs started there import the same one as we did."""

_LIFELINE = Path(__file__).with_name("lifeline.py")

_LOOK_EVERY = 0.02
"""Seconds between two looks at a readiness condition; a death is noticed at once."""

_TAIL_LINES = 12
_TAIL_BYTES = 16_384


class ChildError(SagajobsError):
    """A child process ended, or was not ready in time, when it was to start.

    The first line of the message says what happened; the last lines of the child's log follow.

    Attributes:
        name: the child's name.
        log: its log file.
        tail: the last lines that this start wrote to the log.
    """

    def __init__(self, message: str, *, name: str, log: Path, tail: Sequence[str]) -> None:
        super().__init__(message)
        self.name = name
        self.log = log
        self.tail = tuple(tail)


@dataclass(frozen=True)
class Account:
    """The user that a child is to run as (only root can ask for another than itself)."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Command:
    """What to run, and how.

    Attributes:
        argv: the program and its arguments.
        env: the whole environment, or None for ours.
        cwd: the folder to run in, or None for ours.
        account: another user to run as, or None to stay who we are.
        death_signal: what the kernel sends the child when the thread that started it ends.
    """

    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    account: Account | None = None
    death_signal: signal.Signals = signal.SIGKILL


class RestartBudget:
    """How often something may be started again before it counts as broken.

    Args:
        times: restarts allowed within the window.
        window: seconds that the window is long.
    """

    def __init__(self, times: int = 5, window: float = 60.0) -> None:
        self._times = times
        self._window = window
        self._spent: deque[float] = deque()

    def spend(self) -> bool:
        """Take one restart out of the budget; False if none is left."""
        now = time.monotonic()
        while self._spent and self._spent[0] <= now - self._window:
            self._spent.popleft()
        if len(self._spent) >= self._times:
            return False
        self._spent.append(now)
        return True


def python_executable() -> str:
    """Return the Python interpreter to start our own programs with.

    Inside an application server that embeds Python (uWSGI, mod_wsgi) `sys.executable` is that server's
    binary.
    """
    if sys.executable and Path(sys.executable).name.startswith(("python", "pypy")):
        return sys.executable
    return str(Path(sys.prefix) / "bin" / "python3")


class Child:
    """A running child process in a session and a process group of its own.

    It dies with the *thread* that created this object (see `lifeline`), so create it in one that lasts.

    Args:
        name: how messages call it.
        command: what to run.
        log: file that its output is appended to.
        on_death: called with this object, in a thread of its own, once the child and its group are gone.
    """

    def __init__(
        self, name: str, command: Command, log: Path, *, on_death: Callable[[Child], None] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._on_death = on_death
        self._dead = threading.Event()
        # Held while the pid is given back to the kernel, so that no signal can reach its next owner.
        self._reaping = threading.Lock()
        account = f"{command.account.uid}:{command.account.gid}" if command.account else "-"
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(  # noqa: S603 - argv comes from our own code
                [
                    *(python_executable(), "-I", "-S", str(_LIFELINE)),
                    *(str(os.getpid()), str(int(command.death_signal)), account),
                    *command.argv,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=command.env,
                cwd=command.cwd,
                start_new_session=True,
            )
        threading.Thread(target=self._watch, name=f"watch-{name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id, and id of its process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status (negative: the signal that killed it), or None while it runs."""
        return self._process.returncode if self._dead.is_set() else None

    def _watch(self) -> None:
        # WNOWAIT leaves a zombie, which keeps the pid from its next owner while we kill the group.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self._kill_group()
        with self._reaping:
            self._process.wait()
        self._dead.set()
        if self._on_death:
            self._on_death(self)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child itself, not to its group; nothing happens if it has ended."""
        # Not Popen.send_signal: it reaps a dead child, and then the group can no longer be named safely.
        with self._reaping:
            if self._process.returncode is None:
                os.kill(self.pid, number)

    def _kill_group(self) -> None:
        with self._reaping:
            if self._process.returncode is None:
                os.killpg(self.pid, signal.SIGKILL)

    def check_alive(self) -> None:
        """Raise `ChildError` if the child has ended."""
        if self._dead.is_set():
            raise self.failure(f"ended with {describe_exit(self._process.returncode)} before it was ready")

    def failure(self, what: str) -> ChildError:
        """Return the exception that says `what` went wrong, with the end of the log."""
        tail = self.tail()
        lines = [f"{self.name} {what} (log: {self.log})", *(f"    {line}" for line in tail)]
        return ChildError("\n".join(lines), name=self.name, log=self.log, tail=tail)

    def await_ready(self, look: Callable[[], _T | None], timeout: float) -> _T:
        """Wait until `look` finds something.

        Args:
            look: called again and again until it returns another value than None; must not block for long.
            timeout: seconds to wait at most.

        Returns:
            What it found.

        Raises:
            ChildError: it ended, or it was not ready in time.
        """
        deadline = time.monotonic() + timeout
        while (found := look()) is None:
            if time.monotonic() > deadline:
                raise self.failure(f"was not ready within {timeout:g} s")
            self._dead.wait(_LOOK_EVERY)
            self.check_alive()
        return found

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the child's end, `timeout` seconds at most; False if it still runs then."""
        return self._dead.wait(timeout)

    def stop(
        self,
        how: signal.Signals = signal.SIGTERM,
        grace: float = 10.0,
        *,
        hurry: threading.Event | None = None,
    ) -> None:
        """End the child and return when it is gone; what is left of its group has got SIGKILL by then.

        Args:
            how: the signal that asks the child itself to end.
            grace: seconds until SIGKILL goes to the group.
            hurry: cuts the grace short once it is set.
        """
        deadline = time.monotonic() + grace
        self.send(how)
        while not self._dead.wait(_LOOK_EVERY):
            if time.monotonic() > deadline or (hurry is not None and hurry.is_set()):
                self._kill_group()
                self._dead.wait()

    def output(self) -> str:
        """Return what the child has written since this start."""
        with self.log.open("rb") as stream:
            stream.seek(self._log_start)
            return stream.read().decode(errors="replace")

    def tail(self) -> list[str]:
        """Return the last lines that the child has written since this start."""
        with self.log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(self._log_start, end - _TAIL_BYTES))
            return stream.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]


def describe_exit(returncode: int) -> str:
    """Say an exit status in words: ``status 3``, ``SIGKILL``."""
    if returncode >= 0:
        return f"status {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-returncode}"
