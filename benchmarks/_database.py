"""A migrated database of a benchmark's own, on an embedded server that ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import event

from benchmarks._home import own_folder
from sagajobs import migrations
from sagajobs.runtime import embedded
from sagajobs.saga import Database
from sagajobs.saga.database import IDLE_IN_TRANSACTION


@contextmanager
def own_database(*, idle_in_transaction: float = IDLE_IN_TRANSACTION) -> Iterator[Database]:
    """Give a database whose commits do not wait for the disk: it is not the disk that is measured.

    Args:
        idle_in_transaction: seconds, as for `Database`.
    """
    with own_folder() as home:
        url = embedded.acquire("postgres", home)
        database = Database(lambda: url, idle_in_transaction=idle_in_transaction)
        event.listen(database.engine, "connect", _do_not_wait)
        with closing(database):
            migrations.upgrade(database.engine)
            yield database


def _do_not_wait(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    connection.commit()
