"""The stack: which programs make up a running system, in which order they start, and when each is ready.

Servers first (`prepare`), then the worker, beat, Flower, the receiver of webhooks and the example web application as
children of a `Supervisor`. These are told by their environment where the servers are, so that all mean the same ones.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path

import requests
from pydantic import SecretStr

from sagajobs import migrations
from sagajobs.cli import application, webexample
from sagajobs.errors import ConfigurationError
from sagajobs.runtime.child import python_executable
from sagajobs.runtime.embedded.locks import open_lock, try_lock
from sagajobs.runtime.processes import Program
from sagajobs.runtime.reachability import ServerName, check_reachable
from sagajobs.runtime.secretfiles import FILE_SUFFIX
from sagajobs.runtime.settings import variable_of

LOOPBACK = "127.0.0.1"
FLOWER_PORT = 5555
"""Flower's own default; the next free port above it is taken where somebody has it."""

_PORTS_TRIED = 100
_RESTARTS = 5
_PATIENCE = 0.5
"""Seconds that one look at a child's readiness may take: the supervisor's thread waits for it."""

_BEAT_BANNER = re.compile(r"^LocalTime -> ", re.MULTILINE)
"""What beat prints, at any log level, right before its first tick."""


@dataclass(frozen=True)
class Stack:
    """The programs of one home folder, for the settings of this process.

    Args:
        home: folder for logs and beat's schedule.
        grace: seconds that a worker gets to finish its steps when it is stopped.
    """

    home: Path
    grace: float = 20.0

    def prepare(self) -> dict[ServerName, str]:
        """Start the embedded servers, see that every server can be used, and bring the tables up to date.

        Returns:
            What each server is, as `check_reachable`.

        Raises:
            ConfigurationError: one of them cannot be used; one line.
        """
        self.log("").parent.mkdir(mode=0o700, exist_ok=True)
        found = check_reachable(application.settings())
        migrations.upgrade(application.engine().database.engine)
        return found

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """The environment of every child: ours, and where the servers are."""
        servers = application.servers()
        told = {
            variable_of("database_url"): servers.database,
            variable_of("broker_url"): servers.broker,
            variable_of("redis_url"): servers.redis,
            variable_of("calcom_url"): servers.calcom,
            variable_of("calcom_api_key"): servers.calcom_api_key.get_secret_value(),
            "PYTHONUNBUFFERED": "1",  # their output is a file, which Python would write to in blocks
        }
        return _telling(os.environ, told)

    def worker(self, name: str = "worker") -> Program:
        """Return a worker: ready when it answers a ping by way of the broker."""
        # With our pid in it: another worker on the same broker may have the same name, and would answer for ours.
        node = f"{name}-{os.getpid()}@{socket.gethostname()}"
        # Gossip and mingle tell workers of each other's revoked tasks, which sagas do not use; mingling takes a second.
        argv = _celery(
            "worker", "-n", node, "--without-gossip", "--without-mingle", "-l", application.settings().log_level
        )

        def answers() -> bool:
            control = application.celery_app().control
            return bool(control.inspect(destination=[node], timeout=_PATIENCE, limit=1).ping())

        return self._program(name, argv, answers, grace=self.grace)

    def beat(self) -> Program:
        """Return beat: ready when it says that it starts to tick."""
        log = self.log("beat")
        said_before = log.stat().st_size if log.exists() else 0

        def has_begun() -> bool:
            with log.open(encoding="utf-8", errors="replace") as stream:
                stream.seek(said_before)
                return _BEAT_BANNER.search(stream.read()) is not None

        # The schedule's file is kept here: by default it would be left in whatever folder is the current one.
        # At INFO it would write a line for every sweep, one a second, for as long as the stack runs.
        argv = _celery("beat", "-s", str(self.home / "beat-schedule"), "-l", "WARNING")
        return self._program("beat", argv, has_begun)

    def flower(self, port: int) -> Program:
        """Return Flower, on loopback only, as anybody who reaches it may stop workers: ready when it answers."""
        argv = _celery("flower", f"--address={LOOPBACK}", f"--port={port}")
        return self._program("flower", argv, _answering(f"{flower_url(port)}/healthcheck"))

    def webhooks(self, port: int, secret: SecretStr) -> Program:
        """Return the receiver of webhooks, on loopback only: ready when it answers, that it wants another method."""
        answers = _answering(f"http://{LOOPBACK}:{port}/", HTTPStatus.METHOD_NOT_ALLOWED)
        argv = [python_executable(), "-P", "-m", "sagajobs.cli", "webhooks", f"--host={LOOPBACK}", f"--port={port}"]
        told = {variable_of("calcom_webhook_secret"): secret.get_secret_value()}
        return self._program("webhooks", argv, answers, env=told)

    def web(self, port: int, secret: SecretStr | None) -> Program:
        """Return the example web application, on loopback only: ready when it answers."""
        argv = [python_executable(), "-P", "-m", webexample.MODULE, f"--port={port}"]
        # First in the path: somebody else's package may be called `examples`, too.
        told = {"PYTHONPATH": os.pathsep.join(filter(None, [str(webexample.ROOT), os.environ.get("PYTHONPATH")]))}
        if secret is not None:
            told[variable_of("calcom_webhook_secret")] = secret.get_secret_value()
        return self._program("web", argv, _answering(f"http://{LOOPBACK}:{port}/static/app.css"), env=told)

    def log(self, name: str) -> Path:
        """Return the file that a program's output goes to."""
        return self.home / "logs" / f"{name}.log"

    def _program(
        self,
        name: str,
        argv: list[str],
        ready: Callable[[], bool],
        *,
        grace: float = 10.0,
        env: Mapping[str, str] | None = None,
    ) -> Program:
        return Program(
            name=name,
            argv=argv,
            log=self.log(name),
            env=_telling(self.environment, env or {}),
            ready=ready,
            restarts=_RESTARTS,
            grace=grace,
        )


def _answering(url: str, status: HTTPStatus = HTTPStatus.OK) -> Callable[[], bool]:
    """Return a look at whether a server gives that status to a GET."""

    def answers() -> bool:
        try:
            return requests.get(url, timeout=_PATIENCE).status_code == status
        except requests.RequestException:
            return False

    return answers


def _telling(environment: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with these variables in it; none of them is given by file, too, which would be refused."""
    return {name: value for name, value in environment.items() if name.removesuffix(FILE_SUFFIX) not in told} | {**told}


def _celery(*arguments: str) -> list[str]:
    # As the program `celery` runs, without the current folder in front of the path: a celery.py there is not meant.
    command = [python_executable(), "-P"]
    if os.geteuid() == 0:
        # In a container there is often nobody else to be; C_FORCE_ROOT silences an error, but not this warning.
        command += ["-W", "ignore:::celery.platforms"]
    return [*command, "-m", "celery", "-A", "sagajobs", *arguments]


def flower_url(port: int) -> str:
    """Return the address of a Flower that listens on `port`."""
    return f"http://{LOOPBACK}:{port}"


def free_port(first: int, what: str) -> int:
    """Return a port, or the next free one above it; `what` it is for, should there be none. 0 is any free one."""
    for port in range(first, first + _PORTS_TRIED):
        with closing(socket.socket()) as probe:
            # As the server will do it: a connection of before that is still in TIME_WAIT does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            taken: int = probe.getsockname()[1]
            return taken
    raise ConfigurationError(f"no port for {what}: {first} to {first + _PORTS_TRIED - 1} are all taken")


def port_for(wanted: int | None, usual: int, what: str) -> int:
    """Return the port that is wanted: of 0 any free one, of None the usual one or the next free one above it."""
    return wanted or free_port(usual if wanted is None else 0, what)


@contextmanager
def only_one(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock while the block runs; the kernel takes it back if we are killed, so it is never stale.

    Args:
        lock: the lock's file.
        what: what must not run twice, for the message.

    Raises:
        ConfigurationError: another process holds it, or there can be no such file.
    """
    try:
        lock.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        descriptor = open_lock(lock)
    except OSError as error:
        raise ConfigurationError(f"SAGAJOBS_HOME: {lock.parent} cannot be used ({error.strerror})") from None
    try:
        if not try_lock(descriptor):
            raise ConfigurationError(
                f"{what} is running in {lock.parent} already; stop it, or set another SAGAJOBS_HOME"
            )
        yield
    finally:
        os.close(descriptor)
