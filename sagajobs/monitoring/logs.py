"""Logging: one line a record, the channel `saga` told by its name, and nothing personal from the libraries below."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FORMAT = "%(asctime)s %(levelname)-8s %(processName)s [%(name)s]%(where)s %(message)s"

_QUOTING = {
    # At INFO it writes down every statement.
    "sqlalchemy": logging.WARNING,
    # Their debug records quote URLs and messages; urllib3's are cleaned where they arise (sagajobs.calcom.privacy).
    "redis": logging.INFO,
    "amqp": logging.INFO,
    "kombu": logging.INFO,
}

_DASHES = 3
"""In a `traceparent`: version, trace, span, flags."""

_where: ContextVar[tuple[str, ...]] = ContextVar("where", default=())


def quieten() -> None:
    """Keep libraries from writing what they carry into the log, whatever its level."""
    for name, level in _QUOTING.items():
        logging.getLogger(name).setLevel(level)


@contextmanager
def within(*parts: str) -> Iterator[None]:
    """Have each line that this thread logs inside the block say where it stands: `saga=… step=…`, whoever logs it."""
    token = _where.set((*_where.get(), *parts))
    try:
        yield
    finally:
        _where.reset(token)


def place(logger: logging.Logger) -> None:
    """Let the handlers of a logger write `FORMAT`: only they know where a line of any library stands."""
    for handler in logger.handlers:
        if _place not in handler.filters:
            handler.addFilter(_place)


def _place(record: logging.LogRecord) -> bool:
    parts = _where.get()
    told = getattr(record, "trace", None)  # a `traceparent`, of a line of the channel `saga`
    if isinstance(told, str) and told.count("-") == _DASHES and not any(part.startswith("trace=") for part in parts):
        parts = (*parts, f"trace={told.split('-')[1]}")
    record.where = f" [{' '.join(parts)}]" if parts else ""
    return True


def configure(level: str) -> None:
    """Send this process's log to standard error, from `level` on. Celery's processes set up their own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    place(root)
