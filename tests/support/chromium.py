"""The Chromium that tests of pages use: which one it is, and `python -m tests.support.chromium`, which sees to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")

MISSING = "the tests of pages need Chromium: run `make browser`, or install Debian's package chromium"


def find() -> str | None:
    """Return the browser's path: the machine's own or, without one, Playwright's; None if there is neither."""
    own = next(filter(None, map(shutil.which, NAMES)), None)
    return own or _of_playwright()


def _of_playwright() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def options() -> list[str]:
    """Return what the browser is told: its sandbox refuses to be root's, as who runs CI often is."""
    return ["--no-sandbox"] if os.geteuid() == 0 else []


def _install() -> None:
    apt = shutil.which("apt-get")
    if os.geteuid() == 0 and apt:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            [apt, "update", "-qq"],
            [apt, "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
        ):
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if find() is None:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


if __name__ == "__main__":
    if find() is None:
        _install()
    if find() is None:
        sys.exit(MISSING)
