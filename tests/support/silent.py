"""A way to a server that falls silent: connections stay, and nothing comes through them any more."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

_BASIC_ACK = b"\x00\x3c\x00\x50"
"""By which RabbitMQ confirms that it has a message."""


class Way:
    """A way to a server, from a port of its own on loopback.

    `through` is cleared to have it fall silent, `confirming` to have RabbitMQ's word that it has a message come late;
    `taken` counts those who have taken it.
    """

    def __init__(self, host: str, port: int) -> None:
        self.through, self.confirming = threading.Event(), threading.Event()
        self.through.set()
        self.confirming.set()
        self.taken = 0
        self._target = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        self.through.set()
        self.confirming.set()
        # Closed beneath an `accept` that waits, its number is given to the next socket; and a process that has stood
        # still accepts anew, by that number, what is the next way's.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                self.taken += 1
                there = socket.create_connection(self._target)
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source:
            while said := source.recv(1 << 16):
                self.through.wait()
                if _BASIC_ACK in said:
                    self.confirming.wait()
                sink.sendall(said)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def way_to(host: str, port: int) -> Iterator[Way]:
    """Open a way, until the block ends."""
    with closing(Way(host, port)) as way:
        yield way
