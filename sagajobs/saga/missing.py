"""A database without our tables is told in one clear line, wherever it is first noticed."""

from __future__ import annotations

from sqlalchemy import Engine, event, text
from sqlalchemy.engine import ExceptionContext

from sagajobs.errors import ConfigurationError

_UNDEFINED = ("42P01", "42883")
"""SQLSTATE of an unknown table or function: what a database without our tables answers first."""

_THERE = text("SELECT to_regclass('sagas') IS NOT NULL")


def has_tables(engine: Engine) -> bool:
    """Tell whether a database has our tables."""
    with engine.connect() as connection:
        return bool(connection.execute(_THERE).scalar_one())


def tables_missing(error: BaseException | None, engine: Engine) -> ConfigurationError | None:
    """Return what to say of a statement's failure if the database has no tables of ours, else None.

    Args:
        error: the driver's own exception.
        engine: whose database to look at; only if the failure may be about that.
    """
    if getattr(error, "pgcode", None) not in _UNDEFINED:
        return None
    if has_tables(engine):
        return None  # somebody's own table is meant
    return ConfigurationError("the database has no tables of sagajobs yet; run: sagajobs db upgrade")


def tell_of_missing_tables(engine: Engine) -> None:
    """Have every statement on `engine` that fails for want of our tables raise that `ConfigurationError`."""

    @event.listens_for(engine, "handle_error")
    def tell(context: ExceptionContext) -> BaseException | None:
        return tables_missing(context.original_exception, engine)
