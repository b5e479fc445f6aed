"""Locks that the kernel takes back when their holder dies (`flock`)."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_lock(path: Path) -> int:
    """Open a lock file, made if missing; the descriptor is not passed on to programs that we execute."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def share(descriptor: int) -> None:
    """Wait for a shared lock."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def lock(descriptor: int) -> None:
    """Wait for an exclusive lock."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def unlock(descriptor: int) -> None:
    """Give up the lock, for every process that has inherited it."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def try_lock(descriptor: int) -> bool:
    """Take an exclusive lock if it is free; False if somebody holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
