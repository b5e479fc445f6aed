"""What makes a process watched: log lines that say which saga they are of, Sentry, OpenTelemetry.

Workers, beat and the receiver of webhooks are our own programs: they report to Sentry and send spans by themselves. An
application that only starts sagas imports the same Celery app; it keeps its own Sentry, and its sagas' traces begin in
its own spans.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from celery import Celery, signals
from celery.utils.log import get_multiprocessing_logger

from sagajobs.monitoring import logs
from sagajobs.monitoring.lines import Lines
from sagajobs.runtime.settings import Settings
from sagajobs.saga.watching import Watchers


def watch(app: Celery, watchers: Watchers, settings: Callable[[], Settings]) -> Callable[[], None]:
    """Have this process's work on sagas watched, and more of it should it become a worker or beat of `app`.

    Returns what another program of our own calls to be watched as those are.

    Args:
        app: the Celery app; another one's worker in this process is left alone.
        watchers: the engine's.
        settings: returns the settings.

    Raises:
        ConfigurationError: traces are wanted, and OpenTelemetry is not installed.
    """
    watchers.join(Lines())
    if settings().traces:
        from sagajobs.monitoring import tracing  # noqa: PLC0415 - an extra that need not be installed

        watchers.join(tracing.Tracing())

    @cache  # once: beat within a worker is forked from it
    def begin() -> None:
        _begin_program(watchers, settings())

    def worker_begins(instance: Any, **_others: Any) -> None:
        if instance.app is app:
            begin()

    def beat_begins(sender: Any, **_others: Any) -> None:
        if sender.app is app:
            begin()

    # Not weak: nobody else holds on to them.
    signals.celeryd_init.connect(worker_begins, weak=False)
    signals.beat_init.connect(beat_begins, weak=False)
    signals.after_setup_logger.connect(_place, weak=False)
    signals.after_setup_task_logger.connect(_place, weak=False)
    return begin


def _place(logger: logging.Logger, **_others: Any) -> None:
    logs.place(logger)
    # The pool's own, which says how its processes ended, has a handler of Celery's, too, and no signal.
    if (of_the_pool := get_multiprocessing_logger()) is not None:
        logs.place(of_the_pool)


def _begin_program(watchers: Watchers, settings: Settings) -> None:
    if settings.sentry_dsn is not None:
        from sagajobs.monitoring import sentry  # noqa: PLC0415 - 0.2 s, for who uses it

        watchers.join(sentry.begin(settings.sentry_dsn.get_secret_value()))
    if settings.traces:
        from sagajobs.monitoring import tracing  # noqa: PLC0415 - see above

        provider = tracing.begin()

        def flush(**_others: Any) -> None:
            tracing.flush(provider)

        signals.worker_process_shutdown.connect(flush, weak=False)
