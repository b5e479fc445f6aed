"""A real Flower for our application, in a process of its own."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from sagajobs.testing import nursery
from sagajobs.testing.waiting import wait_for

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
"""A database that is away."""

LOGIN = ("ann", "a password")

_WITHIN = 60


class Flower:
    """A Flower by its address."""

    def __init__(self, url: str, log: Path, auth: tuple[str, str] | None) -> None:
        self.url = url
        self.log = log
        self.auth = auth

    def get(self, path: str, **options) -> requests.Response:
        return requests.get(self.url + path, timeout=_WITHIN, **{"auth": self.auth, **options})

    def told_of_sagas(self) -> str:
        """Return our metrics, without what Flower tells of itself: that goes up and down as it likes."""
        told = self.get("/metrics").text
        return "".join(line + "\n" for line in told.splitlines() if line.startswith("saga_"))

    def says(self, line: str) -> bool:
        """Return whether its metrics have this line."""
        return line in self.told_of_sagas().splitlines()

    def post(self, path: str, **form: str) -> requests.Response:
        """Send a form as a browser would that has been shown one."""
        with requests.Session() as session:
            session.auth = self.auth
            session.get(self.url + "/sagas", timeout=_WITHIN)
            form = {"_xsrf": session.cookies.get("_xsrf", ""), **form}
            return session.post(self.url + path, data=form, timeout=_WITHIN, allow_redirects=False)


@contextmanager
def running(
    *options: str, app: str = "sagajobs", auth: tuple[str, str] | None = LOGIN, **environment: str
) -> Iterator[Flower]:
    """Run `celery -A sagajobs flower`, or another application's, until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "flower.log"
        arguments = ["celery", "-A", app, "flower", "--address=127.0.0.1", "--port=0", *options]
        if auth is not None:
            arguments.append(f"--basic-auth={auth[0]}:{auth[1]}")
        variables = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(Path.cwd())])}
        process = nursery.start(
            "celery.__main__:main", arguments, folder=Path(folder), environment=variables | environment, out=log
        )
        try:
            wait_for(lambda: _port(log) or not process.is_alive(), _WITHIN)
            assert process.is_alive(), log.read_text()
            prefix = next((one.partition("=")[2] for one in options if one.startswith("--url-prefix=")), "")
            yield Flower(f"http://127.0.0.1:{_port(log)}" + (f"/{prefix}" if prefix else ""), log, auth)
        finally:
            process.terminate()
            process.join(60)
            process.kill()
            process.join()


def _port(log: Path) -> str | None:
    said = log.read_text() if log.exists() else ""
    found = re.search(r"Visit me at https?://[^:]+:(\d+)", said)
    return found[1] if found else None


def known_servers() -> dict[str, str]:
    """Return the variables that name all servers but the database, which have to be set where that one is."""
    from sagajobs.root import servers

    return {
        "SAGAJOBS_BROKER_URL": servers().broker,
        "SAGAJOBS_REDIS_URL": servers().redis,
        "SAGAJOBS_CALCOM_URL": servers().calcom,
        "SAGAJOBS_CALCOM_API_KEY": servers().calcom_api_key.get_secret_value(),
    }
