"""Real processes on embedded servers; one home for the whole session, kept alive by a process that uses it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import sqlalchemy

from sagajobs.testing import nursery
from sagajobs.testing.waiting import wait_for

BIN = Path(sys.executable).parent

_HOLD = """
import sys
from pathlib import Path
from sagajobs.runtime.embedded import acquire
for component in ("postgres", "redis", "simulator"):
    print(acquire(component, Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Result:
    """What a program said, and its exit status."""

    out: str
    err: str
    status: int

    @property
    def json(self):
        return json.loads(self.out)


@dataclass
class Shell:
    """Runs our programs in one home."""

    home: Path
    extra: dict[str, str]

    @property
    def env(self) -> dict[str, str]:
        ours = ("SAGAJOBS_", "CELERY_", "FLOWER_", "C_FORCE", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**inherited, "SAGAJOBS_HOME": str(self.home), "TERM": "xterm", **self.extra}

    @property
    def program(self) -> Path:
        return BIN / "sagajobs"

    def with_env(self, **extra: str) -> Shell:
        return Shell(self.home, {**self.extra, **extra})

    def run(self, *argv: str, cwd: Path | None = None, timeout: float = 180) -> Result:
        done = subprocess.run(
            [str(BIN / argv[0]), *argv[1:]],
            env=self.env,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Result(done.stdout, done.stderr, done.returncode)

    def sagajobs(self, *argv: str, cwd: Path | None = None) -> Result:
        """Run `sagajobs` in a process of its own that has the libraries already; `run` starts the installed program."""
        return self._born("sagajobs.cli:main", "sagajobs", *argv, cwd=cwd)

    def celery(self, *argv: str, project: str = "sagajobs", cwd: Path | None = None) -> Result:
        """Run `celery -A PROJECT` likewise."""
        return self._born("celery.__main__:main", "celery", "-A", project, *argv, cwd=cwd)

    def _born(self, program: str, *argv: str, cwd: Path | None, timeout: float = 180) -> Result:
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            process = nursery.start(
                program,
                argv,
                folder=cwd or Path.cwd(),
                environment=self.env,
                out=out,
                err=err,
            )
            status = nursery.ended(process, timeout)
            if status is None:
                process.kill()
                raise AssertionError(f"{' '.join(argv)}: not within {timeout:g} s")
            return Result(out.read_text(), err.read_text(), status)

    def at_once(self, *commands: list[str]) -> list[Result]:
        """Run several commands, a few at a time: most of each is spent on waiting."""
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda argv: self.sagajobs(*argv), commands))

    def in_terminal(self, *argv: str, columns: int = 160) -> str:
        """Run `sagajobs` with a terminal as its standard output, and return what it wrote there."""
        ours, theirs = os.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
            with subprocess.Popen(
                [str(BIN / "sagajobs"), *argv], env=self.env, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL
            ) as process:
                os.close(theirs)
                written = b""
                while chunk := _read(ours):
                    written += chunk
                assert process.wait(60) == 0, written
        finally:
            os.close(ours)
        return written.decode()

    def book(self, how: str, *numbers: int) -> list[list[str]]:
        """Book appointments that begin so many hours from now tomorrow; return ids and states."""
        done = self._born("tests.cli.booker:main", "booker", how, *map(str, numbers), cwd=None)
        assert done.status == 0, done.err
        return json.loads(done.out)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: the other end of the terminal is closed
        return b""


def eventually(check: Callable[[], object], what: str, timeout: float = 120) -> object:
    """Wait until `check` returns something true, and return that."""
    return wait_for(check, timeout, what)


def living_in(home: Path) -> list[str]:
    """Return every process that was started for `home`, us apart."""
    found = []
    for process in psutil.process_iter():
        try:
            told = process.environ().get("SAGAJOBS_HOME") == str(home) or str(home) in " ".join(process.cmdline())
            if told and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@contextmanager
def looking_for_ports() -> Iterator[None]:
    """Let no other process of tests look for free ports meanwhile: who has found one listens there seconds later."""
    with Path(tempfile.gettempdir(), f"sagajobs-tests-{os.getuid()}.ports").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session", name="eventually")
def eventually_fixture():
    return eventually


@pytest.fixture(scope="session", name="living_in")
def living_in_fixture():
    return living_in


@pytest.fixture(scope="session")
def make_home():
    """Makes home folders that are removed at the end, once nothing runs in them any more."""
    homes: list[Path] = []

    def make() -> Path:
        # Not below pytest's own folder: as root, PostgreSQL runs as another user, who could not get in there.
        home = Path(tempfile.mkdtemp(prefix="sagajobs-cli-"))
        home.chmod(0o711)
        homes.append(home)
        return home

    yield make
    for home in homes:
        eventually(lambda home=home: not living_in(home), f"the end of everything in {home}")
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def shell(make_home):
    """A home whose servers run for the whole session."""
    home = make_home()
    result = Shell(home, {"SAGAJOBS_CALCOM_READ_TIMEOUT": "2"})
    with subprocess.Popen(
        [str(BIN / "python"), "-c", _HOLD, str(home)],
        env=result.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        result.postgres, result.redis, result.simulator = (holder.stdout.readline().strip() for _ in range(3))
        yield result
        holder.communicate()


@pytest.fixture
def database(shell):
    """The URL of a new, empty database."""
    name = f"t{uuid.uuid4().hex}"
    admin = sqlalchemy.create_engine(shell.postgres, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return shell.postgres.replace("/sagajobs?", f"/{name}?")


@pytest.fixture(scope="session")
def sql(shell):
    """Runs a statement in the session's database, or in another one, and returns the rows if there are any."""

    def run(statement: str, url: str | None = None, **values):
        engine = sqlalchemy.create_engine(url or shell.postgres)
        with engine.begin() as connection:
            done = connection.execute(sqlalchemy.text(statement), values)
            rows = done.all() if done.returns_rows else []
        engine.dispose()
        return rows

    return run


@pytest.fixture
def one_line():
    """Checks that a command failed with one clear line and nothing else."""

    def check(result: Result, *words: str, status: int = 1) -> None:
        assert result.status == status, result
        assert result.err.startswith("Error: ")
        assert result.err.count("\n") == 1, result.err
        assert "Traceback" not in result.out + result.err
        for word in words:
            assert word in result.err

    return check


def pytest_configure(config):
    config.addinivalue_line("markers", "demo: runs the whole demonstration, some 30 s")
