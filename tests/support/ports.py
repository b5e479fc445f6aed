"""A port for a program that takes none of its own choice."""

from __future__ import annotations

import random
import socket

_BELOW_ALL_OTHERS = range(20_000, 30_000)
"""Neither a connection nor whoever asks for port 0 is given one of these."""


def free_port() -> int:
    """Return a port that nobody listens on, nor gets by chance until it is used."""
    while True:
        port = random.choice(_BELOW_ALL_OTHERS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
