"""Servers of a test run's own: PostgreSQL, Redis and the Cal.com simulator, with their data in a folder that goes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery

    from sagajobs.saga import Engine

SETTINGS = {
    "SAGAJOBS_STALL_AFTER": "1",
    "SAGAJOBS_SWEEP_INTERVAL": "0.5",  # more often, and workers were at little else
    "SAGAJOBS_RECONCILE_INTERVAL": "86400",  # what it says depends on what other tests left at Cal.com
    "SAGAJOBS_CALCOM_CONNECT_TIMEOUT": "0.5",
    "SAGAJOBS_CALCOM_READ_TIMEOUT": "1",
    "SAGAJOBS_CALCOM_QUOTA": "0",
    "SAGAJOBS_CALCOM_CIRCUIT_RESET": "1",
}
"""How the application is set for tests: impatient, and with no quota."""

_PREFIX = "SAGAJOBS_"


@dataclass(frozen=True)
class Stack:
    """The application on its servers.

    Attributes:
        engine: its engine, on a migrated database.
        app: its Celery app.
        calcom: the URL of the simulator.
    """

    engine: Engine
    app: Celery
    calcom: str

    def purge(self) -> None:
        """Throw away whatever messages are in its queues, and in the hands of workers that are gone.

        Redis would give these out again when their time is over, in the middle of some later test.
        """
        queues: Mapping[str, Any] = self.app.amqp.queues
        with self.app.connection_for_write() as connection:
            for queue in queues.values():
                bound = queue(connection.default_channel)
                bound.declare()
                bound.purge()
            channel: Any = connection.default_channel
            if hasattr(channel, "unacked_key"):
                channel.client.delete(channel.unacked_key, channel.unacked_index_key)


@contextmanager
def own_servers() -> Iterator[Stack]:
    """Give the application servers of this process's own, whatever the environment says; to be done once a process.

    Raises:
        ConfigurationError: an embedded server cannot run here.
    """
    home = Path(tempfile.mkdtemp(prefix="sagajobs-test-"))
    home.chmod(0o755)  # as root, the database server runs as another user and must get in
    try:
        with _environment(SETTINGS | {"SAGAJOBS_HOME": str(home)}):
            stack = running()
            yield stack
            stack.engine.database.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def running() -> Stack:
    """Return the application on the servers that the environment names, its database migrated."""
    from sagajobs import migrations, root  # noqa: PLC0415 - importing it reads the environment, which is set by now

    migrations.upgrade(root.engine.database.engine)
    return Stack(root.engine, root.app, root.servers().calcom)


def addresses() -> dict[str, str]:
    """Return, as environment variables, where this process's servers are.

    A worker that is told so need not find out, nor see to the tables, in each process of its pool; and the servers do
    not end with the last worker, as this process holds them.
    """
    from sagajobs.root import servers  # noqa: PLC0415 - see `running`

    found = servers()
    return {
        "SAGAJOBS_DATABASE_URL": found.database,
        "SAGAJOBS_BROKER_URL": found.broker,
        "SAGAJOBS_REDIS_URL": found.redis,
        "SAGAJOBS_CALCOM_URL": found.calcom,
        "SAGAJOBS_CALCOM_API_KEY": found.calcom_api_key.get_secret_value(),
    }


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set these and no others, and have an application that was imported before read them."""
    was = _replaced(settings)
    try:
        if "sagajobs.root" in sys.modules:
            sys.modules["sagajobs.root"].read_again()
        yield
    finally:
        _replaced(was)


def _replaced(settings: Mapping[str, str]) -> dict[str, str]:
    was = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_PREFIX)}
    os.environ.update(settings)
    return was
