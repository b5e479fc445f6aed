"""A Redis (or Valkey) of one test's own, behind a socket in its folder."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import redis

from sagajobs.runtime.embedded.redis import _executable
from sagajobs.testing.waiting import wait_for


class OwnRedis:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # A socket's path is limited to some hundred characters, which pytest's folders use up.
        self._sockets = tempfile.TemporaryDirectory(prefix="sj")
        self._socket = f"{self._sockets.name}/redis.sock"
        self.url = f"unix://{self._socket}?db=0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [_executable(), "--port", "0", "--unixsocket", self._socket, "--save", "", "--dir", str(self.folder)],
            stdout=subprocess.DEVNULL,
        )
        wait_for(self._answers)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=60) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def everything(self) -> str:
        """Every name and every value, as text."""
        with redis.Redis.from_url(self.url, socket_timeout=60) as client:
            names = list(client.scan_iter())
            return repr([(name, client.dump(name)) for name in names])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self.kill()
        self._sockets.cleanup()
