"""`django_session`: start a saga in Django's own transaction, on Django's own connection.

The module is for those who have Django; nothing else of ours imports it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.orm import Session

from sagajobs.errors import ConfigurationError
from sagajobs.saga.missing import has_tables


class _Session(Session):
    """A session that Django commits."""

    def commit(self) -> None:
        self.flush()  # workers who are told now would find nothing yet

    def committed(self) -> None:
        """Have those told who wait for the commit: it has been made."""
        super().commit()


@contextmanager
def django_session(using: str = DEFAULT_DB_ALIAS) -> Iterator[Session]:
    """A SQLAlchemy session whose statements are part of Django's transaction; for `enqueue(session=...)`.

    What is written in it is committed, or rolled back, by Django with all the rest, savepoints too; the session's own
    `commit` and `rollback` touch nothing. Workers are told after Django's commit (`transaction.on_commit`).

    Args:
        using: alias of the database, which must be the one that the workers use.

    Raises:
        ConfigurationError: no transaction is open, or that database cannot hold sagas.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        raise ConfigurationError("django_session needs a transaction of Django's: put it into transaction.atomic()")
    session = _Session(_engine(using), expire_on_commit=False)
    try:
        yield session
        session.flush()
    except BaseException:
        session.close()  # what was to be told after a commit is forgotten
        raise
    transaction.on_commit(session.committed, using=using)


@cache
def _engine(using: str) -> Engine:
    """Return an engine that has one connection: the one that Django has opened in the thread that asks."""
    module = connections[using].Database.__name__
    if module != "psycopg2":
        raise ConfigurationError(
            f"Django's database {using!r} is reached through {module}; to share its transaction it must be psycopg2: "
            "uninstall psycopg, which Django prefers, or start the saga in transaction.on_commit (docs/web.md)"
        )
    engine = create_engine(
        "postgresql+psycopg2://",
        creator=lambda: connections[using].connection,
        poolclass=NullPool,
        pool_reset_on_return=None,
        use_native_hstore=False,  # looking for it would begin a transaction of its own
        hide_parameters=True,
    )
    # The transaction, and the connection, are Django's to end.
    for end in ("do_commit", "do_rollback", "do_close"):
        setattr(engine.dialect, end, lambda _connection: None)
    if not has_tables(engine):
        raise ConfigurationError(
            f"Django's database {using!r} has no tables of sagajobs; give SAGAJOBS_DATABASE_URL the same database "
            "and run: sagajobs db upgrade"
        )
    return engine
