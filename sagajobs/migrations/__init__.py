"""The schema's history, and how a database is brought up to date (`sagajobs db upgrade`)."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

from sagajobs.errors import ConfigurationError

_LOCK = 0x5A6A0B5
"""Key of the advisory lock that lets two upgrades wait for each other instead of colliding."""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """Return the newest revision that this version of the code knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def current(engine: Engine) -> str | None:
    """Return the revision of a database, None if it has no tables of ours."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> str:
    """Bring a database up to the newest revision, in one transaction, and return that revision.

    Raises:
        ConfigurationError: it was made by a newer version.
    """
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            command.upgrade(_config(connection), "head")
    except CommandError as error:
        raise ConfigurationError(f"the database cannot be upgraded by this version: {error}") from None
    return head()
