"""The embedded broker is a Unix socket: Celery's worker, beat, remote control and Flower all take it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sagajobs.runtime.processes import Program, Supervisor
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]

APP = """
import os
from celery import Celery
app = Celery("demo", broker=os.environ["BROKER"])
app.conf.update(task_ignore_result=True, worker_send_task_events=True)
app.conf.beat_schedule = {"tick": {"task": "touch", "schedule": 0.2, "args": [os.environ["TICKED"]]}}

@app.task(name="touch")
def touch(path):
    open(path, "w").close()
"""

BROKER = """
import sys
from pathlib import Path
from sagajobs.runtime.servers import resolve
from sagajobs.runtime.settings import Settings
print(resolve(Settings(home=Path(sys.argv[2]))).broker, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(name="env")
def fixture_env(household, tmp_path):
    (tmp_path / "demo.py").write_text(APP, encoding="utf-8")
    broker = household.user(code=BROKER).url
    assert broker.startswith("redis+socket://")
    return {
        **os.environ,
        "BROKER": broker,
        "TICKED": str(tmp_path / "ticked"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "FLOWER_UNAUTHENTICATED_API": "true",
    }


def read(url):
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own server's
        return answer.read().decode()


def test_worker_beat_flower_and_ping(env, tmp_path, eventually):
    port = free_port()
    celery = [sys.executable, "-m", "celery", "-A", "demo"]

    def start(name, *arguments):
        supervisor.start(Program(name, [*celery, *arguments], tmp_path / name, env=env, cwd=tmp_path))

    with Supervisor() as supervisor:
        start("worker", "worker", "-c", "1", "-n", "one@here", "--without-mingle")
        start("beat", "beat")
        start("flower", "flower", "--address=127.0.0.1", f"--port={port}")
        eventually((tmp_path / "ticked").exists, 40)
        inspect = ["inspect", "--destination", "one@here", "--timeout", "60"]
        ping = subprocess.run(
            [*celery, *inspect, "ping"], env=env, cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert "pong" in ping.stdout

        def flower_knows_the_worker():
            try:
                found = json.loads(read(f"http://127.0.0.1:{port}/api/workers?refresh=1"))
            except OSError:  # it is starting
                return None
            return [worker for worker in found.values() if "registered" in worker]  # it does not wait long for any

        (worker,) = eventually(flower_knows_the_worker, 40)
        assert worker["registered"] == ["touch"]
        queues = json.loads(read(f"http://127.0.0.1:{port}/api/queues/length"))
        assert [queue["name"] for queue in queues["active_queues"]] == ["celery"]
