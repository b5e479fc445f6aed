"""The application behind the commands: its settings, and a database that is there and up to date."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from alembic.util import CommandError

from sagajobs import migrations
from sagajobs.errors import ConfigurationError
from sagajobs.runtime.reachability import check_reachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from sagajobs.calcom.client import CalcomClient
    from sagajobs.runtime.servers import ServerUrls
    from sagajobs.runtime.settings import Settings
    from sagajobs.saga import Database, Engine
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


def engine() -> Engine:
    """Return the engine."""
    found: Engine = _root().engine
    return found


def saga_enabled() -> Switch:
    """Return the switch that says whether the web application books with a saga."""
    found: Switch = _root().saga_enabled
    return found


def reachable_database() -> Database:
    """Return the database, which answers but may have no tables; raises `ConfigurationError`."""
    check_reachable(settings(), "database")
    return engine().database


def ready_database() -> Database:
    """Return the database with the tables of this version.

    An embedded one is brought up to date on the way: its user has not chosen it, so he need not care for it.

    Raises:
        ConfigurationError: it does not answer, or somebody has to upgrade it first.
    """
    database = reachable_database()
    revision = migrations.current(database.engine)
    if revision == migrations.head():
        return database
    if settings().database_url is None:
        upgrade(database)
        return database
    state = "has no tables of sagajobs yet" if revision is None else f"is at revision {revision}"
    raise ConfigurationError(f"the database {state} and {migrations.head()} is needed; run: sagajobs db upgrade")


def upgrade(database: Database) -> str:
    """Bring a database up to date and return its revision.

    Raises:
        ConfigurationError: it was made by a newer version.
    """
    try:
        return migrations.upgrade(database.engine)
    except CommandError as error:
        raise ConfigurationError(f"the database cannot be upgraded by this version: {error}") from None
