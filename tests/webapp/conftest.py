"""The example web application in a process of its own, as `sagajobs up` starts it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from sagajobs.testing import nursery, stack
from sagajobs.testing.waiting import wait_for

SECRET = os.environ["SAGAJOBS_CALCOM_WEBHOOK_SECRET"]

_WITHIN = 60


def ahead() -> str:
    """Return the day after tomorrow: of today's times one may be over between page and click."""
    return (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


class WebApp(NamedTuple):
    """A running web application: its address, and the file that it writes to."""

    url: str
    log: Path


@pytest.fixture(scope="module")
def webapp(tmp_path_factory, app_engine) -> Iterator[WebApp]:
    """The application, one for all tests of a module."""
    folder = tmp_path_factory.mktemp("webapp")
    log = folder / "webapp.log"
    process = nursery.start(
        "examples.webapp.__main__:main",
        ["webapp", "--port=0"],
        folder=folder,
        environment=os.environ | stack.addresses() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        out=log,
    )
    try:
        wait_for(lambda: _address(log) or not process.is_alive(), _WITHIN)
        assert process.is_alive(), log.read_text()
        yield WebApp(_address(log), log)
    finally:
        process.terminate()
        process.join(_WITHIN)
        process.kill()
        process.join()
    assert process.exitcode == 0, log.read_text()


def _address(log: Path) -> str:
    found = re.search(r"^webapp listening on (http://\S+)/$", log.read_text() if log.exists() else "", re.MULTILINE)
    return found[1] if found else ""


class Visitor:
    """Somebody with a cookie and no browser."""

    def __init__(self, webapp: WebApp) -> None:
        self.url = webapp.url
        self.http = requests.Session()
        self.http.trust_env = False

    def get(self, path: str) -> requests.Response:
        return self.http.get(self.url + path, timeout=_WITHIN, allow_redirects=False)

    def post(self, path: str, form: dict[str, str]) -> requests.Response:
        return self.http.post(self.url + path, data=form, timeout=_WITHIN, allow_redirects=False)

    def form(self, **filled: str) -> dict[str, str]:
        """Return the form as it would be sent, its first free time chosen."""
        page = self.get(f"/?offer=1&time_zone=UTC&day={ahead()}").text
        shown = dict(re.findall(r'name="(csrf_token|key|offer|time_zone)" value="([^"]*)"', page))
        start = re.search(r'name="start" value="([^"]*)"', page)[1]
        return shown | {"start": start, "name": "Ada Private", "email": "ada@secret.example"} | filled


@pytest.fixture
def visitor(webapp, simulator, clean) -> Iterator[Visitor]:
    """Somebody with a cookie and no browser, on a clean slate."""
    one = Visitor(webapp)
    yield one
    one.http.close()
