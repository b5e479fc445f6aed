"""Keeping the query strings of Cal.com's URLs, which name attendees, out of the HTTP library's log and out of Sentry.

urllib3 logs every request line at DEBUG, query included. The filter here cuts queries off while a call of
ours is under way in the thread that logs, and leaves the rest of the program's requests alone. Sentry's SDK notes every
request, query included, as a breadcrumb and as a span; while a call of ours is under way it notes them where they are
thrown away.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUERY = re.compile(r"\?[^\s\"'<>]*")
_LOGGERS = ("urllib3.connectionpool", "urllib3.util.retry")

_here = threading.local()


class _QueryCutter(logging.Filter):
    """Rewrites the records of a private call in place, so that no handler sees the query."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(_here, "private", False):
            record.msg = _QUERY.sub("?…", record.getMessage())
            record.args = ()
            # An exception's text may quote the URL as well.
            record.exc_info = None
        return True


def _install() -> None:
    cutter = _QueryCutter()
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(cutter)


_install()


@contextmanager
def private_queries() -> Iterator[None]:
    """Keep query strings out of urllib3's log, and out of Sentry, for what this thread does inside the block."""
    _here.private = True
    try:
        with _unseen_by_sentry():
            yield
    finally:
        _here.private = False


@contextmanager
def _unseen_by_sentry() -> Iterator[None]:
    # Who reports to Sentry has imported its SDK; the others are spared the time that it takes.
    sentry: Any = sys.modules.get("sentry_sdk")
    if sentry is None:
        yield
        return
    with sentry.isolation_scope():
        sentry.get_current_scope().span = None
        yield
