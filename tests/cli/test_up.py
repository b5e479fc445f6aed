"""`sagajobs up`, from the first start to the last process's end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess

import psutil
import pytest
import requests

from sagajobs.calcom.simulator import DEFAULT_API_KEY
from sagajobs.cli import webexample
from sagajobs.testing.simulator import Simulator
from tests.cli.conftest import looking_for_ports
from tests.support.documents import assert_shown, outputs

pytestmark = pytest.mark.timeout(900)

READY = "Ctrl-C stops everything."


class Up:
    """A running `sagajobs up`, and what it says."""

    def __init__(self, shell, log, eventually, *options):
        self.eventually = eventually
        self.log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [str(shell.program), "up", *(options or ["--no-web"])],
                env=shell.env,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=log.parent,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text()

    def await_ready(self) -> None:
        # A dozen processes, each within a minute or it is an error of its own.
        self.eventually(lambda: READY in self.said() or self.process.poll() is not None, "the stack", 300)
        assert self.process.poll() is None, self.said()

    def pid_of(self, name: str) -> int:
        return int(re.search(rf"^{name} is ready \(pid (\d+)\)$", self.said(), re.MULTILINE)[1])

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(180)


def _flowers_port() -> socket.socket | None:
    try:
        return socket.create_server(("127.0.0.1", 5555))
    except OSError:  # another test's Flower
        return None


@pytest.fixture
def up_in(tmp_path, eventually):
    started: list[Up] = []

    def start(shell, *options: str) -> Up:
        one = Up(shell, tmp_path / f"up{len(started)}.log", eventually, *options)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGTERM)
        one.process.wait()


@pytest.fixture
def _only_one_looks_for_ports():
    """To the test's end: what it starts again, or once more, is to have the same ones."""
    with looking_for_ports():
        yield


@pytest.mark.usefixtures("_only_one_looks_for_ports")
def test_up_and_down_and_up_again(shell, make_home, up_in, living_in, eventually, one_line):
    home = make_home()
    there = shell.with_env(SAGAJOBS_HOME=str(home), SAGAJOBS_CALCOM_READ_TIMEOUT="2")
    with contextlib.ExitStack() as taken:
        with contextlib.suppress(AssertionError):  # somebody has Flower's port, and keeps it: as good
            taken.enter_context(eventually(_flowers_port, "Flower's port", 30))
        first = up_in(there)
        first.await_ready()
    said = first.said()
    typed = re.search(r"^    (\S+) health +what is wrong, and what to do about it$", said, re.MULTILINE)[1]
    assert shutil.which(typed), "it can be typed as it is said"
    assert re.search(r"^database +PostgreSQL .* postgresql\+psycopg2://", said, re.MULTILINE)
    assert re.search(r"^Cal\.com +simulator +http://127\.0\.0\.1:\d+$", said, re.MULTILINE)
    flower = re.search(r"^Flower is at (http://127\.0\.0\.1:(\d+))$", said, re.MULTILINE)
    assert flower[2] != "5555"
    assert requests.get(flower[1], timeout=60).status_code == 200

    assert there.book("enqueue", 1)[0][1] == "completed"
    one_line(there.sagajobs("up"), "sagajobs up is running", str(home))

    # Worker, beat and Flower are started again, one by one, and go on with the work.
    for name in ("worker", "beat", "flower"):
        os.killpg(first.pid_of(name), signal.SIGKILL)
    for name in ("worker", "beat", "flower"):
        eventually(
            lambda name=name: f"{name} (pid {first.pid_of(name)}) ended with SIGKILL: started again" in first.said(),
            f"the new {name}",
        )
    assert there.book("enqueue", 2)[0][1] == "completed"
    eventually(lambda: _answers(flower[1]), "the new Flower")

    assert first.end(signal.SIGINT) == 0
    assert first.said().splitlines()[-1] == "stopped"
    # Flower with them, which is not asked for: somebody else's may have taken its port by now.
    eventually(lambda: not living_in(home), "the end of all processes")
    assert not list(first.log.parent.glob("celerybeat*"))

    again = up_in(there, "--web-port=0", f"--flower-port={flower[2]}")
    again.await_ready()
    assert_shown(outputs("quickstart.md")[0], again.said())
    assert f"Flower is at {flower[1]}\n" in again.said()
    web = re.search(r"^the example web application is at (http://127\.0\.0\.1:\d+/)$", again.said(), re.MULTILINE)[1]
    assert "Book an appointment" in requests.get(web, timeout=60).text
    simulator = Simulator(re.search(r"^Cal\.com +simulator +(http\S+)$", again.said(), re.MULTILINE)[1])
    eventually(lambda: _webhooks(simulator) == [f"{web}webhooks/calcom"], "the subscription")
    simulator.close()
    unsigned = requests.post(f"{web}webhooks/calcom", data=b"{}", timeout=60)
    assert unsigned.status_code == 401, "it has the secret, and nobody signs but the simulator"
    assert len(there.sagajobs("sagas", "list", "--json").json) == 2
    assert again.end(signal.SIGTERM) == 0
    eventually(lambda: not living_in(home), "the end of all processes")


def test_what_a_host_does_in_the_simulator_reaches_us(shell, make_home, up_in, living_in, eventually, sql):
    home = make_home()
    there = shell.with_env(SAGAJOBS_HOME=str(home), SAGAJOBS_RECONCILE_INTERVAL="86400")
    with contextlib.ExitStack() as taken:
        with contextlib.suppress(OSError):  # somebody has the receiver's port already: as good
            taken.enter_context(socket.create_server(("127.0.0.1", 8080)))
        running = up_in(there, "--no-web", "--flower-port=0")
        running.await_ready()
    receiver = re.search(r"^webhooks are received at (http://127\.0\.0\.1:(\d+)/)$", running.said(), re.MULTILINE)
    assert receiver[2] != "8080"
    assert requests.post(receiver[1], data=b"{}", timeout=60).status_code == 401, "nobody signs but the simulator"
    simulator = Simulator(re.search(r"^Cal\.com +simulator +(http\S+)$", running.said(), re.MULTILINE)[1])
    database = re.search(r"^database .* (postgresql\S+)$", running.said(), re.MULTILINE)[1]
    assert [state for _, state in there.book("enqueue", 1, 2)] == ["completed"] * 2

    def cancelled() -> int:
        for one in simulator.deliveries():
            if [answer["status"] for answer in one["answers"]][-1:] == [503]:  # all stood still while it connected
                simulator.repeat(one["id"])
        return sql("SELECT count(*) FROM appointments WHERE status = 'cancelled'", database)[0][0]

    first, second = simulator.standing()
    eventually(lambda: _webhooks(simulator) == [receiver[1]], "the subscription")
    simulator.host("cancel", first["uid"])
    eventually(lambda: cancelled() == 1, "the first cancel")

    # The receiver is started again, and a simulator that was is told again where to send.
    os.killpg(running.pid_of("webhooks"), signal.SIGKILL)
    eventually(lambda: "ended with SIGKILL: started again" in running.said(), "the new receiver")
    requests.delete(f"{simulator.url}/v2/webhooks/1", headers=AUTHORIZED, timeout=60).raise_for_status()
    eventually(lambda: _webhooks(simulator) == [receiver[1]], "the new subscription")
    eventually(lambda: _answers_at_all(receiver[1]), "the new receiver")
    simulator.host("cancel", second["uid"])
    eventually(lambda: cancelled() == 2, "the second cancel")
    simulator.close()
    assert there.sagajobs("invariants").status == 0

    # Killed, it leaves nothing behind.
    assert len(psutil.Process(running.process.pid).children(recursive=True)) > 3
    running.process.kill()
    running.process.wait()
    eventually(lambda: not living_in(home), "the end of all processes")


def test_a_program_that_cannot_start_ends_it(shell, make_home, tmp_path, living_in, eventually, up_in):
    home = make_home()
    (tmp_path / "celeryconfig.py").write_text("worker_pool = 'no.such:Pool'\n")
    failing = up_in(shell.with_env(SAGAJOBS_HOME=str(home)))
    assert failing.process.wait(180) == 1
    last = failing.said().splitlines()[-1]
    assert re.fullmatch(
        rf"Error: worker ended with status \d+ before it was ready \(log: {home}/logs/worker\.log\)", last
    )
    eventually(lambda: not living_in(home), "the end of all processes")


AUTHORIZED = {"Authorization": f"Bearer {DEFAULT_API_KEY}"}


def _webhooks(simulator) -> list[str]:
    listed = requests.get(f"{simulator.url}/v2/webhooks", headers=AUTHORIZED, timeout=60).json()["data"]
    return [one["subscriberUrl"] for one in listed]


def _answers_at_all(url: str) -> bool:
    try:
        return bool(requests.get(url, timeout=1).status_code)
    except requests.RequestException:
        return False


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


def test_why_the_example_is_not_there_is_said_in_one_line(monkeypatch, tmp_path):
    assert webexample.missing() is None
    monkeypatch.setattr(webexample, "_NEEDED", ("no_such_module",))
    assert webexample.missing() == "it needs the extra examples: pip install 'sagajobs[examples]'"
    monkeypatch.setattr(webexample, "ROOT", tmp_path)
    assert webexample.missing() == "it comes with the source only, in the folder examples"
