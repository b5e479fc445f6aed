"""Logging: one line a record, the channel `saga` told by its name, and nothing personal from the libraries below."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s %(levelname)-8s %(processName)s [%(name)s] %(message)s"

_QUOTING = {
    # At INFO it writes down every statement.
    "sqlalchemy": logging.WARNING,
    # Their debug records quote URLs and messages; urllib3's are cleaned where they arise (sagajobs.calcom.privacy).
    "redis": logging.INFO,
    "amqp": logging.INFO,
    "kombu": logging.INFO,
}


def quieten() -> None:
    """Keep libraries from writing what they carry into the log, whatever its level."""
    for name, level in _QUOTING.items():
        logging.getLogger(name).setLevel(level)


def configure(level: str) -> None:
    """Send this process's log to standard error, from `level` on. Celery's processes set up their own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
