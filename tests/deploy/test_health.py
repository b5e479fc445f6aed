"""The health checks, run for real: what is well is well, and what is away is told, by exit status and in one line."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from sagajobs.cli import main
from sagajobs.cli import ready as command
from sagajobs.testing.waiting import wait_for
from tests.deploy.files import compose

SERVICES = compose()["services"]


def _run(*arguments: str):
    """Run `sagajobs` in this process, whose servers are embedded ones and whose worker has beat within it."""
    return CliRunner().invoke(main, arguments)


@pytest.mark.usefixtures("clean")
def test_worker_and_beat(worker, app_engine, monkeypatch):
    node = re.search(r"(w[0-9a-f]{8}@test) ready\.", worker.log.read_text())[1]

    def swept() -> bool:
        with app_engine.database.reading() as connection:
            return bool(connection.execute(text("SELECT ran_at FROM sweeps WHERE name = 'recover'")).scalar())

    wait_for(swept)
    (check,) = SERVICES["worker"]["healthcheck"]["test"][3:]
    done = _run("ready", f"{check}={node}", "--beat")
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r"ready: PostgreSQL \S+, broker \S+ \S+, \S+ \S+\n", done.output)

    monkeypatch.setattr(command, "PATIENCE", 0.3)
    host = re.escape(socket.gethostname())
    told = rf"Error: worker celery@{host} has not answered within 0\.3 s; is it .*\? (.*)\n"

    def others() -> str:
        away = _run(*SERVICES["worker"]["healthcheck"]["test"][2:])
        assert away.exit_code == 1
        return re.fullmatch(told, away.output)[1]

    # One that is at something, on a machine that is, may answer late.
    wait_for(lambda: others().startswith(f"Those that answer: {node}; ask "))


def _probe(service: str, old: int, new: int) -> int:
    program, *arguments = SERVICES[service]["healthcheck"]["test"][1:]
    assert program == "python"
    assert str(old) in arguments[-1]
    arguments[-1] = arguments[-1].replace(str(old), str(new))
    return subprocess.run([sys.executable, *arguments], env=os.environ, check=False, capture_output=True).returncode


def test_what_listens(simulator):
    """Of Flower see tests/flower/test_login.py."""
    port = int(simulator.url.rpartition(":")[2])
    for service, written in (("simulator", 8000), ("webhooks", 8080)):
        assert str(written) in " ".join(SERVICES[service]["command"])
        wait_for(lambda at=(service, written, port): _probe(*at) == 0)
        assert _probe(service, written, 9) != 0
