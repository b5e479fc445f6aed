"""Logging: one line a record, the saga's channel told apart, and nothing personal in a traceback."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s %(levelname)-8s %(processName)s %(message)s"
SAGA_FORMAT = "%(asctime)s %(levelname)-8s [saga] %(message)s"


class _Formatter(logging.Formatter):
    """Marks records of the channel `saga`, as operators look for them first."""

    def __init__(self) -> None:
        super().__init__(FORMAT)
        self._saga = logging.Formatter(SAGA_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        return self._saga.format(record) if record.name == "saga" else super().format(record)


def configure(level: str) -> None:
    """Send this process's log to standard error, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Their debug records quote URLs with addresses in them.
    for noisy in ("urllib3", "redis", "amqp", "kombu"):
        logging.getLogger(noisy).setLevel(max(logging.INFO, root.level))
    # At INFO it writes down every statement.
    logging.getLogger("sqlalchemy").setLevel(max(logging.WARNING, root.level))
