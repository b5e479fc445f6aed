"""What all tests share: real servers of their own, a clean slate, and the invariants afterwards.

The servers are the embedded ones, in a home of this run. `TEST_DATABASE_URL`, `TEST_BROKER_URL` and `TEST_REDIS_URL`
(`make test-servers`) name others; what a process of the suite makes on them is its own, and gone afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagajobs.testing.stack import SETTINGS
from tests.support import given

# Before anybody imports the application: that reads the environment.
HOME = Path(tempfile.mkdtemp(prefix="sagajobs-test-"))
HOME.chmod(0o755)  # as root, the database server runs as another user and must get in
for variable in [name for name in os.environ if name.startswith("SAGAJOBS_")]:
    del os.environ[variable]
os.environ.update(
    SETTINGS,
    SAGAJOBS_HOME=str(HOME),
    SAGAJOBS_CALCOM_WEBHOOK_SECRET="a secret of the tests",  # noqa: S106 - that is what it is
)

signal.signal(signal.SIGINT, signal.default_int_handler)  # begun in the background, we and our programs would be deaf

LOOKING = ("test_broker.py", "test_counts.py", "test_queue_prefix.py")

ALIKE = (
    *("test_killed_sync.py", "test_outage.py", "test_quota_drain.py", "test_review_celery.py"),
    *("test_kit.py", "test_killed.py", "test_killed_composite.py", "test_parallel_killed.py"),
)
"""Modules whose messages are to a broker like others: about a kind of booking, about Cal.com, or doing to more sagas
what the kit's checks do there to one."""

TALKING = ("test_outbox.py",)
"""Modules that go through the broker without a worker."""

OUTSIDE = {"worker", "saga_worker"}
"""Fixtures that start Celery workers; the tests that ask for one take seconds, and go through the broker."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes, then with the modules that start most workers.

    A module is one process's, and a long one must not be last.
    """
    if broker := os.environ.get("TEST_BROKER_URL", ""):
        rabbitmq = broker.startswith("amqp")
        items[:] = [item for item in items if _is_new_on_given_servers(item, rabbitmq=rabbitmq)]
    waiting = Counter(item.path for item in items if not OUTSIDE.isdisjoint(item.fixturenames))
    items.sort(key=lambda item: (item.get_closest_marker("long") is None, -waiting[item.path]))


def _is_new_on_given_servers(item: pytest.Item, *, rabbitmq: bool) -> bool:
    """Leave out what would show nothing more: the suite has run on a Redis of its own.

    With RabbitMQ what goes through a broker, of each kind once; with Redis all that does not, which is for the
    database's sake, and what looks into Redis or counts.
    """
    if item.path.parent.name == "kit":
        return rabbitmq  # which kills, doubles and loses more than any other module
    through_broker = not OUTSIDE.isdisjoint(item.fixturenames) or item.path.name in TALKING
    if rabbitmq:
        return through_broker and item.path.name not in ALIKE
    return not through_broker or item.path.name in LOOKING


def pytest_configure(config: pytest.Config) -> None:
    """Set the servers, and only then import the fixtures: they import the application, which reads the environment."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        _take_from_given_servers()  # the process that hands out the tests of `-n` runs none
    for module in ("fixtures", "asked", "creating", "syncing", "following", "problems"):
        config.pluginmanager.import_plugin(f"tests.support.{module}")


def _take_from_given_servers() -> None:
    if os.environ.get("TEST_DATABASE_URL"):
        os.environ["SAGAJOBS_DATABASE_URL"] = given.own_database(os.environ["TEST_DATABASE_URL"])
        # With a database set by hand Cal.com must be named too; the simulator is the embedded one all the same.
        from sagajobs.runtime import embedded

        os.environ["SAGAJOBS_CALCOM_URL"] = embedded.acquire("simulator", HOME)
        os.environ["SAGAJOBS_CALCOM_API_KEY"] = "cal_test_simulator"
    if os.environ.get("TEST_BROKER_URL"):
        os.environ["SAGAJOBS_BROKER_URL"] = given.own_number(os.environ["TEST_BROKER_URL"])
        os.environ["SAGAJOBS_QUEUE_PREFIX"] = given.PREFIX
    if os.environ.get("TEST_REDIS_URL"):
        os.environ["SAGAJOBS_REDIS_URL"] = given.own_number(os.environ["TEST_REDIS_URL"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show, beside what failed, what the module's worker has said: it is gone with its folder."""
    report = yield
    worker = getattr(item, "funcargs", {}).get("worker")
    if report.failed and hasattr(worker, "log"):
        report.sections.append(("the worker's log", worker.log.read_text(errors="replace")[-4000:]))
    return report


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _own_servers():
    """Leave nothing on them; not later, as a process of `-n` is ended when its last test has been reported."""
    yield
    from sagajobs.root import app, engine

    engine.database.close()
    if os.environ.get("TEST_BROKER_URL"):
        given.leave_broker(app)
    if os.environ.get("TEST_DATABASE_URL"):
        given.drop_database(os.environ["TEST_DATABASE_URL"])
    shutil.rmtree(HOME, ignore_errors=True)
