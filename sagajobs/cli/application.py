"""The application behind the commands: its settings, and a database that is there and up to date."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

from sagajobs.cli.groups import first_line
from sagajobs.desk.readiness import check_tables
from sagajobs.errors import ConfigurationError
from sagajobs.runtime.reachability import check_reachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from sagajobs.calcom.circuit import Circuit
    from sagajobs.calcom.client import CalcomClient
    from sagajobs.calcom.quota import Quota
    from sagajobs.runtime.servers import ServerUrls
    from sagajobs.runtime.settings import Settings
    from sagajobs.saga import Database, Engine
    from sagajobs.saga.bus import Bus
    from sagajobs.saga.switches import Switch


def _root() -> Any:
    """Return the composition root.

    Imported at the first use: importing it reads the settings, and `--help` must work with a wrong one.
    """
    return importlib.import_module("sagajobs.root")


def settings() -> Settings:
    """Return the settings; raises `ConfigurationError`."""
    load: Callable[[], Settings] = _root().settings
    return load()


def servers() -> ServerUrls:
    """Return the servers; none is started before its URL is asked for."""
    load: Callable[[], ServerUrls] = _root().servers
    return load()


def calcom() -> CalcomClient:
    """Return the Cal.com client."""
    load: Callable[[], CalcomClient] = _root().calcom
    return load()


def celery_app() -> Celery:
    """Return the Celery app."""
    app: Celery = _root().app
    return app


def begin_program() -> None:
    """Have this process report to Sentry and send spans, where settings ask for it, as a worker does by itself."""
    _root().begin_program()


def engine() -> Engine:
    """Return the engine."""
    found: Engine = _root().engine
    return found


def load_kind(name: str) -> None:
    """See to it that this process knows a kind of saga, if the workers do.

    Raises:
        ConfigurationError: a module that the workers import cannot be imported here; the message names it.
    """
    if name not in engine().kinds:
        load_kinds()


@cache
def load_kinds() -> None:
    """Import what the workers import, and with it an author's own sagas; raises as `load_kind`."""
    loader = celery_app().loader
    for module in loader.default_modules:
        try:
            loader.import_task_module(module)
        except Exception as error:
            said = first_line(f"{type(error).__name__}: {error}")
            raise ConfigurationError(
                f"module {module}, which `imports` of the Celery configuration names, cannot be imported ({said})"
            ) from error
    loader.import_default_modules()  # the above once more, and those that somebody has Celery discover


def circuit() -> Circuit | None:
    """Return the circuit breaker of calls to Cal.com, or None if there is none."""
    find: Callable[[], Circuit | None] = _root().circuit
    return find()


def quota() -> Quota | None:
    """Return the quota of calls to Cal.com, or None if none is kept."""
    find: Callable[[], Quota | None] = _root().quota
    return find()


def saga_enabled() -> Switch:
    """Return the switch that says whether the web application books with a saga."""
    found: Switch = _root().saga_enabled
    return found


def saga_events() -> Switch:
    """Return the switch that says whether events are kept for others."""
    found: Switch = _root().saga_events
    return found


def bus() -> Bus:
    """Return the event bus; its broker may be away."""
    check_reachable(settings(), "broker")
    found: Bus = _root().events
    return found


def reachable_database() -> Database:
    """Return the database, which answers; one given by URL may have no tables. Raises `ConfigurationError`."""
    check_reachable(settings(), "database")
    return engine().database


def ready_database() -> Database:
    """Return the database with the tables of this version.

    Raises:
        ConfigurationError: it does not answer, or somebody has to upgrade it first.
    """
    database = reachable_database()
    check_tables(database)
    return database
