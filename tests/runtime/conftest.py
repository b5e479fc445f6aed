"""Real processes for the tests of the runtime: users of embedded servers, and what they leave behind."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from functools import cached_property
from pathlib import Path

import psutil
import pytest

from sagajobs.testing.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]

USER = """
import sys
from functools import cached_property
from pathlib import Path
from sagajobs.errors import ConfigurationError
from sagajobs.runtime.embedded import acquire
try:
    print(acquire(sys.argv[1], Path(sys.argv[2])), flush=True)
except ConfigurationError as error:
    print("ConfigurationError", error, flush=True)
sys.stdin.readline()
"""


def is_gone(process):
    """Tell whether a process has ended; where process 1 reaps nobody, its zombie stays."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class User:
    """A process that uses an embedded server until it is told to end, or is killed."""

    def __init__(self, component, home, *, code=USER, **options):
        self.process = subprocess.Popen(
            [options.pop("python", sys.executable), "-c", code, component, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **{"cwd": "/", **options},
        )

    def line(self):
        """Wait for the next line that it prints."""
        return self.process.stdout.readline().strip()

    @cached_property
    def url(self):
        return self.line()

    def leave(self):
        self.process.communicate("\n", timeout=60)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(name="eventually")
def fixture_eventually():
    return wait_for


def only(found):
    """Return the one that there is; none of several."""
    return found[0] if len(found) == 1 else None


class Household:
    """One home folder, the users that a test starts for it, and every process that belongs to it."""

    def __init__(self, home):
        self.home = home
        self.users = []

    def user(self, component="redis", **options):
        user = User(component, self.home, **options)
        self.users.append(user)
        return user

    def processes(self):
        """Return keepers and servers of this home; not the users."""
        ours = [user.process.pid for user in self.users]
        found = []
        for process in psutil.process_iter(["cmdline", "cwd", "status"]):
            mentions = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
            alive = process.info["status"] != psutil.STATUS_ZOMBIE
            if alive and process.pid not in ours and any(str(self.home) in mention for mention in mentions):
                found.append(process)
        return found

    def keepers(self):
        return [p for p in self.processes() if "sagajobs.runtime.embedded" in (p.info["cmdline"] or [])]

    def keeper(self):
        # For a moment the process that has forked the keeper can be seen beside it.
        return wait_for(lambda: only(self.keepers()))

    def server(self):
        keeper = self.keeper()
        return wait_for(lambda: only(keeper.children()))

    def await_gone(self):
        wait_for(lambda: not self.processes())

    def end(self):
        for user in self.users:
            user.kill()
        self.await_gone()


@pytest.fixture(name="household")
def fixture_household():
    """A home that every account may pass through, as one in /var/lib would be."""
    folder = Path(tempfile.mkdtemp(prefix="sagajobs-test-"))
    folder.chmod(0o711)
    household = Household(folder / "home")
    try:
        yield household
    finally:
        try:
            household.end()
        finally:
            shutil.rmtree(folder)


@pytest.fixture(name="new_household")
def fixture_new_household():
    """A way to make a household at a path of the test's choice; the test removes the folder."""
    made = []

    def make(home):
        made.append(Household(home))
        return made[-1]

    yield make
    for household in made:
        household.end()


@pytest.fixture(name="kill")
def fixture_kill():
    """SIGKILL processes and wait until they are gone."""

    def kill(*pids_of):
        processes = [psutil.Process(each.pid) for each in pids_of]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):  # one before it may have taken it along
                os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: all(is_gone(process) for process in processes))

    return kill


@pytest.fixture(name="ordinary_user")
def fixture_ordinary_user():
    """Options to start a process as a user without rights, with a home of its own (for root only)."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else; every other test runs as an ordinary user here")
    python = next((path for path in _pythons() if _usable_by_all(path)), None)
    if python is None:
        pytest.skip("no Python of this version that another user can run")
    home = Path(tempfile.mkdtemp(prefix="sagajobs-user-"))
    uid = pwd.getpwnam("daemon").pw_uid  # initdb insists on a user with a name
    os.chown(home, uid, uid)
    # A system Python older than 3.11.3 lacks what redis-py then takes from another package.
    (home / "async_timeout.py").write_text("from asyncio import timeout\n", encoding="ascii")
    libraries = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib"), str(home)])
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": libraries}
    yield home, {"python": python, "user": uid, "group": uid, "extra_groups": [], "env": env}
    shutil.rmtree(home)


def _pythons():
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield sys.executable
    yield from (f"{folder}/{name}" for folder in ("/usr/local/bin", "/usr/bin"))


def _usable_by_all(path):
    real = Path(path).resolve()
    return real.exists() and all(step.stat().st_mode & 0o001 for step in (real, *real.parents))
