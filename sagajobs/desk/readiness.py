"""Whether a database has the tables that this version of the code asks."""

from __future__ import annotations

from sagajobs import migrations
from sagajobs.errors import ConfigurationError
from sagajobs.saga import Database


def check_tables(database: Database) -> None:
    """Raise `ConfigurationError`, one line, unless a database that answers has the tables of this version."""
    revision = migrations.current(database.engine)
    if revision == migrations.head():
        return
    state = "has no tables of sagajobs yet" if revision is None else f"is at revision {revision}"
    raise ConfigurationError(f"the database {state} and {migrations.head()} is needed; run: sagajobs db upgrade")
