"""Prometheus' own checker of rules: which one it is, and `python -m tests.support.promtool`, which sees to it.

It comes with Debian's package `prometheus`, of which only this one program is wanted, so it is not installed but
unpacked, which takes no root; the package lists are fetched into a folder of our own for the same reason.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(__file__).parents[2] / ".venv" / "promtool"

MISSING = "the tests of alert rules need promtool: run `make promtool`, or install Debian's package prometheus"


def find() -> str | None:
    """Return the program's path: the machine's own or, without one, the unpacked one; None if there is neither."""
    unpacked = HOME / "usr" / "bin" / "promtool"
    return shutil.which("promtool") or (str(unpacked) if unpacked.exists() else None)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end; what it says is in `stdout` and `stderr`."""
    program = find()
    assert program is not None, MISSING
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def _install() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lists, cache = Path(folder, "lists"), Path(folder, "cache")
        for one in (lists, cache):
            (one / "partial").mkdir(parents=True)
        # As whoever we are: apt's own user could not write here.
        own = ["-qq", "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "APT::Sandbox::User="]
        _tried("apt-get", *own, "update", at=folder)
        _tried("apt-get", *own, "download", "prometheus", at=folder)
        for package in Path(folder).glob("prometheus_*.deb"):
            _tried("dpkg-deb", "--extract", str(package), f"{folder}/unpacked", at=folder)
            HOME.joinpath("usr", "bin").mkdir(parents=True, exist_ok=True)
            shutil.move(f"{folder}/unpacked/usr/bin/promtool", HOME / "usr" / "bin" / "promtool")


def _tried(program: str, *arguments: str, at: str) -> None:
    if path := shutil.which(program):
        command = [path, *arguments]
        subprocess.run(command, cwd=at, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    if find() is None:
        _install()
    if find() is None:
        sys.exit(MISSING)
