"""A folder of a benchmark's own, and the environment of a stack that lives there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_folder() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="sagajobs-bench-"))
    home.chmod(0o755)  # as root, the database server runs as another user and must get in
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def own_home(**settings: str) -> Iterator[Path]:
    """Give a home folder, and settings that this machine's have no part in, to what is imported within the block.

    Args:
        settings: by their names in the environment.
    """
    for variable in [name for name in os.environ if name.startswith("SAGAJOBS_")]:
        del os.environ[variable]
    with own_folder() as home:
        os.environ |= {"SAGAJOBS_HOME": str(home), **settings}
        yield home
