"""Folders of the embedded servers: who may own them, who can reach them, where sockets fit."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sagajobs.errors import ConfigurationError

if TYPE_CHECKING:
    from sagajobs.runtime.child import Account

_LONGEST_SOCKET_FOLDER = 80
"""Bytes; a socket's path may have 107 (Linux, sys/un.h; 103 on macOS), of which PostgreSQL adds 21."""

_PLAIN = re.compile(r"[A-Za-z0-9._/-]+")
"""Paths that mean the same in a URL, in a server's configuration and in a shell."""


class Place:
    """The folder of one component, and the files in it that client and keeper share.

    Args:
        home: absolute path of the folder for all embedded servers.
        component: the component's name.
    """

    def __init__(self, home: Path, component: str) -> None:
        self.home = home
        self.component = component
        self.folder = home / component
        self.users_lock = self.folder / "users.lock"
        self.start_lock = self.folder / "start.lock"
        self.keeper_lock = self.folder / "keeper.lock"
        self.state = self.folder / "server.json"
        self.keeper_log = self.folder / "keeper.log"
        self.server_log = self.folder / "server.log"

    def create(self) -> None:
        """Make the folder, or check that it is ours.

        Raises:
            ConfigurationError: it cannot be made, or belongs to another user.
        """
        try:
            # Traversable for others, not readable: as root, PostgreSQL runs as another user and must get
            # through.
            for folder in (self.home, self.folder):
                folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            owner = self.folder.stat().st_uid
            writable = os.access(self.folder, os.W_OK | os.X_OK)
        except OSError as error:
            raise ConfigurationError(
                f"SAGAJOBS_HOME: no folder for the embedded servers at {self.home} ({error.strerror}); "
                "name one that you can write to"
            ) from None
        if owner != os.geteuid() or not writable:
            raise ConfigurationError(
                f"SAGAJOBS_HOME: {self.folder} belongs to uid {owner} and you are uid {os.geteuid()}; "
                "name a folder of your own"
            )

    def key(self, *more: object) -> str:
        """Return a short name for this place, the same in every process; `more` makes it another one."""
        identity = ":".join(str(part) for part in (os.geteuid(), os.path.realpath(self.folder), *more))
        return hashlib.sha256(os.fsencode(identity)).hexdigest()[:12]


def can_traverse(folder: Path, account: Account) -> bool:
    """Tell whether `account` may pass through `folder` and everything above it."""
    path = folder.resolve()
    return all(_may(step, account, 0o1) for step in (path, *path.parents))


def can_read(file: Path, account: Account) -> bool:
    """Tell whether `account` can reach and read `file`."""
    path = file.resolve()
    return _may(path, account, 0o4) and can_traverse(path.parent, account)


def _may(path: Path, account: Account, bit: int) -> bool:
    status = path.stat()
    if account.uid in {0, status.st_uid}:
        return account.uid == 0 or bool(status.st_mode & (bit << 6))
    if status.st_gid == account.gid:
        return bool(status.st_mode & (bit << 3))
    return bool(status.st_mode & bit)


def private_folder(path: Path, account: Account) -> Path:
    """Make a folder that only `account` can enter, or check that an existing one is just that.

    Raises:
        ConfigurationError: something else has that name, perhaps planted there by another user.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    # Everything below goes through one descriptor: a name in a shared folder may change its meaning
    # meanwhile.
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise ConfigurationError(f"{path} is in the way of an embedded server ({error.strerror}); remove it") from None
    try:
        status = os.fstat(folder)
        if status.st_uid not in {account.uid, os.geteuid()} or stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigurationError(
                f"{path} belongs to uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o}: "
                "no place for an embedded server's files; remove it"
            )
        if status.st_uid != account.uid:  # just made, or left between making it and this line by a SIGKILL
            os.fchown(folder, account.uid, account.gid)
    finally:
        os.close(folder)
    return path


def socket_folder(place: Place, account: Account) -> Path:
    """Return a private folder whose path is short and plain enough for a server's socket.

    It lies under ``$XDG_RUNTIME_DIR``, or under ``/tmp`` where that is missing or out of `account`'s reach.

    Raises:
        ConfigurationError: another user planted something there.
    """
    # The lock file is another one when somebody removed the folder and made it anew while a server ran: the
    # old server, which ends with its last user, must not take the new one's socket along.
    name = f"sagajobs-{place.component}-{place.key(place.users_lock.stat().st_ino)}"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for base in (Path(runtime), Path("/tmp")):  # noqa: S108 - its contents are checked by private_folder
        path = base / name
        fits = len(os.fsencode(path)) <= _LONGEST_SOCKET_FOLDER and _PLAIN.fullmatch(str(path))
        usable = base.is_absolute() and base.is_dir() and os.access(base, os.W_OK)
        if fits and usable and can_traverse(base, account):
            return private_folder(path, account)
    raise ConfigurationError("no folder for the embedded servers' sockets: neither $XDG_RUNTIME_DIR nor /tmp will do")
