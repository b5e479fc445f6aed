"""The supervisor: what it starts, what it notices, and that nothing outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from sagajobs.errors import SagajobsError
from sagajobs.runtime.child import ChildError, RestartBudget
from sagajobs.runtime.processes import Program, Supervisor

ROOT = Path(__file__).resolve().parents[2]

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);print('deaf', flush=True); time.sleep(600)"),
]
WITH_GRANDCHILD = [
    sys.executable,
    "-c",
    (
        "import subprocess, sys, time;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print('grandchild', p.pid, flush=True); time.sleep(600)"
    ),
]

SUPERVISED = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sagajobs.runtime.processes import Program, Supervisor
folder = Path(sys.argv[1])
said = lambda name, word: (lambda: word in (folder / name).read_text())
with Supervisor() as supervisor:
    supervisor.start(Program("deaf", {DEAF!r}, folder / "deaf", ready=said("deaf", "deaf"), grace=GRACE))
    up = said("family", "grandchild")
    supervisor.start(Program("family", {WITH_GRANDCHILD!r}, folder / "family", ready=up))
    print(*supervisor.pids().values(), (folder / "family").read_text().split()[1], flush=True)
    supervisor.wait()
"""


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(name="supervised")
def fixture_supervised(tmp_path):
    """Start a process with a supervisor of two children and a grandchild; gives it and their pids."""
    started = []

    def start(grace=10.0, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISED.replace("GRACE", str(grace)), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            **options,
        )
        started.append(process)
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 3
        assert all(alive(pid) for pid in pids)
        helpers = [child.pid for child in psutil.Process(process.pid).children() if child.pid not in pids]
        return process, [*pids, *helpers]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_sigterm_ends_everything(supervised):
    process, pids = supervised(grace=0.2)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert not any(alive(pid) for pid in pids)


def test_ctrl_c_ends_everything(supervised):
    process, pids = supervised(grace=0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert not any(alive(pid) for pid in pids)


def test_a_second_ctrl_c_hastens_the_end_and_breaks_nothing(supervised, eventually):
    process, pids = supervised(grace=600.0)
    process.send_signal(signal.SIGINT)
    eventually(lambda: not alive(pids[1]))  # it stops them in reverse order; the deaf one is left
    assert alive(pids[0])
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert not any(alive(pid) for pid in pids)


def test_a_terminals_ctrl_c_reaches_the_supervisor_alone(supervised):
    process, pids = supervised(grace=0.2, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert not any(alive(pid) for pid in pids)


def test_sigkill_of_the_supervisor_leaves_nothing_behind(supervised, eventually):
    process, pids = supervised(grace=600.0)
    process.kill()
    eventually(lambda: not any(alive(pid) for pid in pids))


def test_an_exception_ends_everything(tmp_path):
    pids = []

    def fail_at_work():
        with Supervisor() as supervisor:
            pids.extend(supervisor.start(Program(name, SLEEPER, tmp_path / name)) for name in "ab")
            assert all(alive(pid) for pid in pids)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_at_work()
    assert not any(alive(pid) for pid in pids)


def test_handlers_are_given_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Supervisor():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_start_waits_until_ready(tmp_path):
    log = tmp_path / "log"
    late = [sys.executable, "-c", "import time; time.sleep(0.3); print('ready', flush=True); time.sleep(600)"]
    with Supervisor() as supervisor:
        supervisor.start(Program("late", late, log, ready=lambda: "ready" in log.read_text()))
        assert "ready" in log.read_text()


@pytest.mark.parametrize(
    ("argv", "timeout", "said"),
    [
        (
            [sys.executable, "-c", "print('first'); raise SystemExit('no such luck')"],
            60,
            "ended with status 1 before it was ready",
        ),
        (["/no/such/program"], 60, "ended with status 127 before it was ready"),
        (SLEEPER, 0.3, "was not ready within 0.3 s"),
    ],
)
def test_a_failed_start_is_a_line_and_the_end_of_the_log(tmp_path, argv, timeout, said):
    log = tmp_path / "log"
    log.write_text("of an earlier run\n")
    with Supervisor() as supervisor:
        with pytest.raises(ChildError) as caught:
            supervisor.start(Program("it", argv, log, ready=lambda: False, ready_timeout=timeout))
        assert supervisor.pids() == {}
    first, *rest = str(caught.value).splitlines()
    assert first == f"it {said} (log: {log})"
    assert rest == [f"    {text}" for text in log.read_text().splitlines()[1:]]


def test_a_death_is_noticed_told_and_repaired_within_bounds(tmp_path, eventually):
    deaths = []
    with Supervisor(on_death=deaths.append) as supervisor:
        supervisor.start(Program("it", SLEEPER, tmp_path / "log", restarts=2))
        for number in (1, 2, 3):
            pid = supervisor.pids()["it"]
            os.kill(pid, signal.SIGKILL)
            eventually(lambda number=number: len(deaths) == number)
            assert deaths[-1].pid == pid
            assert not alive(pid)
        lost = supervisor.wait(60)
        assert supervisor.pids() == {}
    assert [death.successor for death in deaths] == [deaths[1].pid, deaths[2].pid, None]
    assert str(deaths[0]) == f"it (pid {deaths[0].pid}) ended with SIGKILL: started again as pid {deaths[1].pid}"
    assert [death.restarted for death in deaths] == [True, True, False]
    assert lost == deaths[-1]
    assert lost.returncode == -signal.SIGKILL
    assert str(lost) == f"it (pid {lost.pid}) ended with SIGKILL: not started again"


def test_a_dead_childs_children_go_with_it(tmp_path, eventually):
    log = tmp_path / "log"
    with Supervisor() as supervisor:
        pid = supervisor.start(Program("it", WITH_GRANDCHILD, log, ready=lambda: "grandchild" in log.read_text()))
        grandchild = int(log.read_text().split()[1])
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(grandchild))


def test_a_mistake_in_the_callback_ends_nothing(tmp_path):
    def broken(death):
        raise RuntimeError(death.name)

    with Supervisor(on_death=broken) as supervisor:
        supervisor.start(Program("one", SLEEPER, tmp_path / "one"))
        other = supervisor.start(Program("other", SLEEPER, tmp_path / "other"))
        os.kill(supervisor.pids()["one"], signal.SIGKILL)
        assert supervisor.wait(60).name == "one"
        assert alive(other)
        assert supervisor.pids() == {"other": other}


def test_stop_ends_one_and_starts_it_not_again(tmp_path):
    deaths = []
    with Supervisor(on_death=deaths.append) as supervisor:
        one = supervisor.start(Program("one", SLEEPER, tmp_path / "one", restarts=5))
        other = supervisor.start(Program("other", SLEEPER, tmp_path / "other"))
        supervisor.stop("one")
        assert not alive(one)
        assert supervisor.pids() == {"other": other}
        with pytest.raises(SagajobsError, match="no child is named one"):
            supervisor.stop("one")
        with pytest.raises(SagajobsError, match="other runs already"):
            supervisor.start(Program("other", SLEEPER, tmp_path / "other"))
    assert deaths == []


def test_children_are_stopped_in_reverse_order(tmp_path):
    log = tmp_path / "log"
    code = (
        "import signal, sys, time; "
        "signal.signal(signal.SIGTERM, lambda *_: (print('end', sys.argv[1], flush=True), sys.exit())); "
        "print('up', sys.argv[1], flush=True); time.sleep(600)"
    )
    with Supervisor() as supervisor:
        for name in "abc":
            up = f"up {name}"
            argv = [sys.executable, "-c", code, name]
            supervisor.start(Program(name, argv, log, ready=lambda up=up: up in log.read_text()))
    assert log.read_text().splitlines()[-3:] == ["end c", "end b", "end a"]


def test_a_deaf_child_is_killed_after_its_grace(tmp_path, eventually):
    log = tmp_path / "log"
    with Supervisor() as supervisor, ThreadPoolExecutor(1) as beside:
        supervisor.start(Program("deaf", DEAF, log, ready=lambda: "deaf" in log.read_text(), grace=0.3))
        begun = time.monotonic()
        stopping = beside.submit(supervisor.stop, "deaf")
        eventually(stopping.done, Program("it", DEAF, log).grace - 2)
        assert time.monotonic() - begun >= 0.3
        stopping.result()


def test_outside_its_block_it_says_so(tmp_path):
    with pytest.raises(SagajobsError, match="outside its with block"):
        Supervisor().start(Program("x", SLEEPER, tmp_path / "log"))


def test_a_restart_budget_comes_back_with_time(eventually):
    budget = RestartBudget(times=2, window=600)
    assert [budget.spend(), budget.spend(), budget.spend()] == [True, True, False]
    brief = RestartBudget(times=1, window=0.2)
    assert brief.spend()
    assert eventually(brief.spend)
