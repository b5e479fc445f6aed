"""What an embedded server is to its keeper."""

from __future__ import annotations

import shutil
import signal
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from sagajobs.runtime.embedded.folders import socket_folder

if TYPE_CHECKING:
    from pathlib import Path

    from sagajobs.runtime.child import Account, Child, Command
    from sagajobs.runtime.embedded.folders import Place


class Component(ABC):
    """One kind of embedded server.

    Args:
        place: where its files are.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_grace: ClassVar[float] = 15.0
    start_timeout: ClassVar[float] = 60.0

    def __init__(self, place: Place) -> None:
        self.place = place
        self.sockets: Path | None = None

    @abstractmethod
    def prepare(self) -> Command:
        """Make ready for a start, repairing what an unclean end has left, and return what to run.

        Raises:
            ConfigurationError: it cannot run here; one line that says why.
        """

    @abstractmethod
    def address(self, child: Child) -> str | None:
        """Return the URL of the server if it is ready to serve by now, else None."""

    def make_socket_folder(self, account: Account) -> Path:
        """Make the folder of the server's socket, empty, which `account` alone can enter."""
        self.sockets = socket_folder(self.place, account)
        for leftover in self.sockets.iterdir():
            # PostgreSQL takes the lock file of a killed server for a live one's while its zombie has the pid.
            leftover.unlink()
        return self.sockets

    def clean(self) -> None:
        """Remove what is of no use without a running server."""
        if self.sockets and self.sockets.exists():
            shutil.rmtree(self.sockets)
