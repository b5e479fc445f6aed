"""What all tests share: real servers of their own, a clean slate, and the invariants afterwards.

The servers are the embedded ones, in a home of this run. `TEST_DATABASE_URL`, `TEST_BROKER_URL` and `TEST_REDIS_URL`
(`make test-servers`) name others; a database of this run's own is then made on the first and dropped afterwards.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

# Before `sagajobs` is imported by anybody: importing it reads the environment.
HOME = Path(tempfile.mkdtemp(prefix="sagajobs-test-"))
HOME.chmod(0o755)  # as root, the database server runs as another user and must get in
for variable in [name for name in os.environ if name.startswith("SAGAJOBS_")]:
    del os.environ[variable]
os.environ.update(
    SAGAJOBS_HOME=str(HOME),
    SAGAJOBS_STALL_AFTER="1",
    SAGAJOBS_SWEEP_INTERVAL="0.2",
    SAGAJOBS_RECONCILE_INTERVAL="86400",  # what it says depends on what other tests left at Cal.com
    SAGAJOBS_CALCOM_CONNECT_TIMEOUT="0.5",
    SAGAJOBS_CALCOM_READ_TIMEOUT="1",
    SAGAJOBS_CALCOM_WEBHOOK_SECRET="a secret of the tests",  # noqa: S106 - that is what it is
    SAGAJOBS_CALCOM_QUOTA="0",
    SAGAJOBS_CALCOM_CIRCUIT_RESET="1",
    SAGAJOBS_LOG_LEVEL="DEBUG",
)


def _own_database(server: str) -> str:
    name = f"sagajobs_test_{os.getpid()}"
    url = make_url(server).set(drivername="postgresql+psycopg2")
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return url.set(database=name).render_as_string(hide_password=False)


if os.environ.get("TEST_DATABASE_URL"):
    os.environ["SAGAJOBS_DATABASE_URL"] = _own_database(os.environ["TEST_DATABASE_URL"])
    # With a database set by hand Cal.com must be named too; the simulator is the embedded one all the same.
    from sagajobs.runtime import embedded

    os.environ["SAGAJOBS_CALCOM_URL"] = embedded.acquire("simulator", HOME)
    os.environ["SAGAJOBS_CALCOM_API_KEY"] = "cal_test_simulator"
for given, ours in (("TEST_BROKER_URL", "SAGAJOBS_BROKER_URL"), ("TEST_REDIS_URL", "SAGAJOBS_REDIS_URL")):
    if os.environ.get(given):
        os.environ[ours] = os.environ[given]

pytest_plugins = ["tests.support.fixtures", "tests.support.syncing"]


@pytest.fixture(scope="session", autouse=True)
def _own_servers():
    yield
    from sagajobs.root import engine

    engine.database.close()
    if os.environ.get("TEST_DATABASE_URL"):
        url = make_url(os.environ["TEST_DATABASE_URL"]).set(drivername="postgresql+psycopg2")
        with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(f"DROP DATABASE sagajobs_test_{os.getpid()} WITH (FORCE)"))
    shutil.rmtree(HOME, ignore_errors=True)
