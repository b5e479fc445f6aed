"""The circuit breaker in a fleet: one trial among many processes, Redis lost, forks and threads."""

import json
import logging
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from sagajobs.calcom import errors
from sagajobs.calcom import shared as shared_module
from sagajobs.calcom.circuit import Circuit, CircuitState
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.gate import Gate
from sagajobs.calcom.operations import ME
from sagajobs.calcom.quota import Quota
from sagajobs.calcom.shared import Shared
from sagajobs.testing.waiting import wait_for
from tests.support.circuits import fail, let_trial_come
from tests.support.scripted import http, request

OPEN, CLOSED, HALF_OPEN = CircuitState.OPEN, CircuitState.CLOSED, CircuitState.HALF_OPEN
FAULTS = ("http_500", "http_503", "http_524", "drop", "timeout", "malformed")


ME_ANSWERED = http(200, b'{"status":"success","data":{"id":1}}')

# A worker of four threads: all wait for the word, then each calls once.
RUSH = """
import json, sys, threading
import redis
from sagajobs.calcom import shared
from sagajobs.calcom.circuit import Circuit
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.errors import CalcomError
from sagajobs.calcom.gate import Gate
from sagajobs.calcom.shared import Shared

url, key, calcom, name = sys.argv[1:]
shared.TIMEOUT = 60
circuit = Circuit(Shared(lambda: url, key), failures=3, reset=60, longest_call=300)
client = CalcomClient(calcom, "cal_test_simulator", read_timeout=120, gate=Gate(circuit=circuit))
said = []

def rush():
    with redis.Redis.from_url(url, socket_timeout=None) as line:
        line.incr(f"{name}:ready")
        assert line.blpop([f"{name}:go"], 120)
    try:
        client.me()
        said.append("answered")
    except CalcomError as error:
        said.append(type(error).__name__)
    finally:
        client.close()
        with redis.Redis.from_url(url, socket_timeout=None) as line:
            line.incr(f"{name}:told")

threads = [threading.Thread(target=rush) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(said))
"""


@pytest.mark.parametrize("failing", [False, True])
def test_one_call_of_the_whole_fleet_is_the_trial(circuit, redis_url, key, failing):
    fail(circuit, 3)
    with (
        redis.Redis.from_url(redis_url, socket_timeout=None) as line,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        workers = [
            subprocess.Popen([sys.executable, "-c", RUSH, redis_url, key, url, key], stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        wait_for(lambda: int(line.get(f"{key}:ready") or 0) == 16)
        let_trial_come(circuit)
        line.rpush(f"{key}:go", *range(16))
        listener.settimeout(60)
        trial, _ = listener.accept()
        with trial:
            request(trial)
            # The trial takes longer than all others need to be turned away.
            wait_for(lambda: int(line.get(f"{key}:told") or 0) == 15)
            if not failing:
                trial.sendall(ME_ANSWERED)
        said = sorted(word for worker in workers for word in json.loads(worker.communicate()[0]))
        line.delete(f"{key}:ready", f"{key}:told")
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()

    assert [worker.returncode for worker in workers] == [0] * 4
    assert said == ["CalcomCircuitOpen"] * 15 + ["CalcomUnavailable" if failing else "answered"]
    assert circuit.state() is (OPEN if failing else CLOSED)


def test_while_cal_com_fails_it_gets_one_call_a_reset(simulator, shared):
    circuit = Circuit(shared, failures=1, reset=2, longest_call=5)
    simulator.fault("any", "http_503", probability=1)
    started, reached = time.monotonic(), []

    def insist(_):
        with CalcomClient(simulator.url, "cal_test_simulator", gate=Gate(circuit=circuit)) as client:
            while time.monotonic() < started + 5 or len(reached) < 3:
                with pytest.raises((errors.CalcomUnavailable, errors.CalcomCircuitOpen)) as caught:
                    client.me()
                if caught.errisinstance(errors.CalcomUnavailable):
                    reached.append(client)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(insist, range(8)))

    # Up to eight at once before the first failure was known; then one a reset, which is between one and two seconds.
    assert len(simulator.calls()) <= 8 + time.monotonic() - started


def test_without_redis_it_is_closed_with_one_warning_a_minute(free_port, key, caplog):
    shared = Shared(lambda: f"redis://127.0.0.1:{free_port}/0", key)
    circuit = Circuit(shared, failures=1, reset=30, longest_call=5)

    with caplog.at_level(logging.WARNING):
        fail(circuit, 20)
        circuit.close()

    assert circuit.state() is CLOSED
    assert circuit.snapshot() is None
    assert len(caplog.records) == 1


def test_redis_lost_in_the_middle_of_a_trial(own_redis, key, caplog):
    circuit = Circuit(Shared(lambda: own_redis.url, key), failures=1, reset=60, longest_call=300)
    fail(circuit, 1)
    let_trial_come(circuit)
    trial = circuit.admit(ME)
    own_redis.kill()

    circuit.succeeded(trial)
    circuit.give_back(trial)

    assert circuit.state() is CLOSED
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_the_api_key_is_nowhere_in_redis(simulator, own_redis):
    key = "cal_test_simulator"
    shared = Shared(lambda: own_redis.url, key)
    gate = Gate(circuit=Circuit(shared, failures=1, reset=30, longest_call=5), quota=Quota(shared, 5, delay=0))
    simulator.fault("any", "rate_limit")
    with CalcomClient(simulator.url, key, gate=gate) as client:
        with pytest.raises(errors.CalcomRateLimited):
            client.me()
        assert key not in repr([shared, gate, client])
    fail(gate.circuit, 1)

    kept = own_redis.everything()
    assert shared.prefix in kept
    for what in ("quota:calls", "quota:blocked", "circuit:pybreaker:opened_at"):
        assert f"{shared.prefix}:{what}" in kept
    assert key not in kept


FORKING = """
import os, sys
from sagajobs.calcom import shared as shared_module
from sagajobs.calcom.circuit import Circuit
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.gate import Gate
from sagajobs.calcom.quota import Quota
from sagajobs.calcom.shared import Shared

url, key, calcom = sys.argv[1:]
shared_module.TIMEOUT = 60
shared = Shared(lambda: url, key)
quota = Quota(shared, 1000, delay=0)
gate = Gate(circuit=Circuit(shared, failures=3, reset=30, longest_call=5), quota=quota)
client = CalcomClient(calcom, "cal_test_simulator", read_timeout=60, gate=gate)
client.me()
child = os.fork()
for _ in range(100):
    client.me()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(quota.snapshot().used)
"""


def test_parent_and_child_of_a_fork_share_what_is_counted_and_no_connection(simulator, redis_url, key):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, redis_url, key, simulator.url],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert done.stdout == "201\n", done.stderr


def test_threads_are_not_sent_one_after_the_other(circuit):
    """None is answered before all have called."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(4) as pool:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def call():
            with CalcomClient(url, "cal_x", read_timeout=60, gate=Gate(circuit=circuit)) as client:
                return client.me().id

        calls = [pool.submit(call) for _ in range(4)]
        listener.settimeout(60)
        for connection in [listener.accept()[0] for _ in calls]:
            with connection:
                request(connection)
                connection.sendall(ME_ANSWERED)
        assert [one.result() for one in calls] == [1] * 4


def test_a_redis_that_hangs_is_away_for_each_thread_that_waits_for_it(monkeypatch):
    """What one thread makes of its time-out must not end the wait of another one in the middle."""
    monkeypatch.setattr(shared_module, "TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        shared = Shared(lambda: f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "key")
        waiting, accepted = [], []

        def give_up(client):
            waiting.append(pool.submit(client.ping))
            accepted.append(silent.accept()[0])
            raise redis.TimeoutError

        assert shared.ask(give_up, "away") == "away"
        with pytest.raises(redis.RedisError):
            waiting[0].result()
        accepted[0].close()
