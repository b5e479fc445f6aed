"""What Flower's /metrics says of sagas, made in a thread of its own: Flower's other pages do not wait for it."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from prometheus_client.core import Metric
from sqlalchemy.exc import DBAPIError

from sagajobs import root
from sagajobs.desk.metrics import exposition, read
from sagajobs.flower import pages

__all__ = ["LONGEST", "exposition", "scraper"]

LONGEST = 5.0
"""Seconds after which a scrape is answered without the database: Prometheus waits for 10 s by default."""


class Scraper:
    """Reads the metrics, once for all who ask meanwhile: a database that hangs holds one thread, however often."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._asked: Future[list[Metric]] | None = None

    def ask(self) -> Future[list[Metric]]:
        """Return what is being read, or what will be from now on; call it from one thread only."""
        if self._asked is None or self._asked.done():
            self._asked = self._thread.submit(_read)
        return self._asked


@cache
def scraper() -> Scraper:
    """Return this process's scraper."""
    return Scraper()


def _read() -> list[Metric]:
    pages.check_database()
    try:
        return _once()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        return _once()  # the server was restarted since: the pool has noticed now


def _once() -> list[Metric]:
    return read(root.engine, circuit=root.circuit(), quota=root.quota())
