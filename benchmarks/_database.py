"""A migrated database of a benchmark's own, on an embedded server that ends with it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event

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
    home = Path(tempfile.mkdtemp(prefix="sagajobs-bench-"))
    home.chmod(0o755)  # as root, the database server runs as another user and must get in
    url = embedded.acquire("postgres", home)
    database = Database(lambda: url, idle_in_transaction=idle_in_transaction)
    event.listen(database.engine, "connect", _do_not_wait)
    try:
        migrations.upgrade(database.engine)
        yield database
    finally:
        database.close()
        shutil.rmtree(home, ignore_errors=True)


def _do_not_wait(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    connection.commit()
