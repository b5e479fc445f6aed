"""The shared quota: never exceeded by whatever number of workers, shared out by priority, out of nobody's way."""

import json
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagajobs.calcom import errors
from sagajobs.calcom import shared as shared_module
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.gate import Gate
from sagajobs.calcom.operations import ADD_GUESTS, ME, SET_LOCATION
from sagajobs.calcom.priority import Priority
from sagajobs.calcom.quota import SKEW, SPREADS, Quota
from sagajobs.calcom.shared import TIMEOUT, Shared
from sagajobs.errors import Deferred
from sagajobs.testing.waiting import wait_for

UNDO, NEAR, FAR = Priority.UNDO, Priority.NEAR, Priority.FAR


def taken(quota, priority, operation=ME):
    try:
        quota.take(operation, priority)
    except errors.CalcomQuotaSpent:
        return False
    return True


def take_all(quota, priority, operation=ME):
    count = 0
    while taken(quota, priority, operation):
        count += 1
    return count


# A worker of four threads that wants more than there is, until all together have had it three times; each call arrives
# at once or `delay` later. One that has been held up on its way for longer than the quota reckons with is left out.
HAMMER = """
import json, random, sys, threading, time
from sagajobs.calcom import shared as shared_module
from sagajobs.calcom.errors import CalcomQuotaSpent
from sagajobs.calcom.operations import ME
from sagajobs.calcom.priority import Priority
from sagajobs.calcom.quota import SKEW, Quota
from sagajobs.calcom.shared import Shared

url, key, limit, window, delay, seed = sys.argv[1:]
shared_module.TIMEOUT = 60
shared = Shared(lambda: url, key)
quota = Quota(shared, int(limit), delay=float(delay), server_window=float(window))
arrivals = []

def all_had():
    return int(shared.ask(lambda client: client.get(f"{key}:had"), None) or 0)

def hammer(number):
    chance = random.Random(f"{seed}.{number}")
    while all_had() < 3 * int(limit):
        begun = time.time()
        try:
            quota.take(ME, chance.choice(list(Priority)))
        except CalcomQuotaSpent:
            time.sleep(chance.uniform(0.0, 0.01))
            continue
        now = time.time()
        shared.ask(lambda client: client.incr(f"{key}:had"), None)
        if now - begun < SKEW:
            arrivals.append(now + chance.choice([0.0, float(delay)]))

threads = [threading.Thread(target=hammer, args=[n]) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(arrivals))
"""


def test_no_window_of_the_server_s_ever_holds_more_than_the_limit(redis_url, key):
    limit, window, delay = 30, 1.0, 2.5

    workers = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, redis_url, key, *map(str, (limit, window, delay, seed))],
            stdout=subprocess.PIPE,
        )
        for seed in range(3)
    ]
    arrivals = sorted(moment for worker in workers for moment in json.loads(worker.communicate()[0]))

    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert len(arrivals) > 2 * limit  # the limit was met, not merely never reached
    closest = min(later - earlier for earlier, later in zip(arrivals, arrivals[limit:], strict=False))
    assert closest > window


# A worker of four threads that calls as fast as it may, and comes back when it is told to; until it is told to end. It
# says how long the longest took to get its call answered.
CALLER = """
import sys, threading, time
from sagajobs.calcom import shared as shared_module
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.errors import CalcomDeferred
from sagajobs.calcom.gate import Gate
from sagajobs.calcom.priority import Priority
from sagajobs.calcom.quota import Quota
from sagajobs.calcom.shared import Shared

url, key, calcom = sys.argv[1:]
shared_module.TIMEOUT = 60
quota = Quota(Shared(lambda: url, key), 20, delay=1, server_window=1)
end, took = threading.Event(), [0.0]

def call(priority):
    client = CalcomClient(calcom, "cal_test_simulator", read_timeout=60, gate=Gate(quota=quota))
    with client.at(priority) as client:
        while not end.is_set():
            begun = time.monotonic()
            try:
                client.me()
            except CalcomDeferred as error:
                took.append(time.monotonic() - begun)
                end.wait(min(error.retry_after, 0.2))
            else:
                took.append(time.monotonic() - begun)

threads = [threading.Thread(target=call, args=[priority]) for priority in [*Priority, Priority.FAR]]
for thread in threads: thread.start()
sys.stdin.readline()
end.set()
for thread in threads: thread.join()
print(max(took))
"""


def test_cal_com_has_no_reason_to_refuse(simulator, redis_url, key):
    simulator.switch(rate_limit_per_minute=20, rate_limit_window_seconds=1)

    begun = time.monotonic()

    command = [sys.executable, "-c", CALLER, redis_url, key, simulator.url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(3)]
    wait_for(lambda: simulator.control("GET", "counts")["calls"] > 40)
    longest = max(float(worker.communicate("\n")[0]) for worker in workers)
    assert [worker.returncode for worker in workers] == [0, 0, 0]

    counts = simulator.control("GET", "counts")
    # None that the quota helps against: one that froze between counting and sending.
    assert set(counts["statuses"]) == {"200"} or longest > SKEW
    assert counts["calls"] <= 20 * (1 + (time.monotonic() - begun) / 4), "twenty in four seconds"


def test_each_priority_has_its_share(shared):
    quota = Quota(shared, 120, delay=3)

    assert [quota.left(one) for one in (UNDO, NEAR, FAR)] == [120, 108, 96]
    assert take_all(quota, FAR) == 96
    assert [quota.left(one) for one in (UNDO, NEAR, FAR)] == [24, 12, 0]
    assert take_all(quota, NEAR) == 12
    assert take_all(quota, UNDO) == 12
    assert [take_all(quota, one) for one in Priority] == [0, 0, 0]
    snapshot = quota.snapshot()
    assert (snapshot.per_minute, snapshot.window, snapshot.used, snapshot.blocked_for) == (120, 65, 120, 0)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 25), wishes=st.lists(st.sampled_from(list(Priority)), max_size=60))
def test_in_whatever_order_they_come(redis_url, limit, wishes):
    """`limits` cuts its list to the limit that was asked for last: nothing that still counts may get lost by that."""
    quota = Quota(Shared(lambda: redis_url, f"cal_{time.monotonic_ns()}"), limit, delay=0)
    most = {UNDO: limit, NEAR: max(limit * 9 // 10, 1), FAR: max(limit * 8 // 10, 1)}

    used = 0
    for wish in wishes:
        assert taken(quota, wish) == (used < most[wish])
        used += used < most[wish]


def test_threads_do_not_take_more_than_the_share(shared):
    quota = Quota(shared, 50, delay=0)
    barrier = threading.Barrier(16)

    def hurry(_):
        barrier.wait()
        return sum(taken(quota, FAR) for _ in range(10))

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(hurry, range(16))) == 40


def test_the_wait_is_as_long_as_it_takes(shared):
    quota = Quota(shared, 10, delay=0, server_window=1)  # a window of 3 s
    started = time.monotonic()

    def take_on():
        while True:
            quota.take(ME, FAR)

    with pytest.raises(errors.CalcomQuotaSpent) as caught:
        take_on()

    assert isinstance(caught.value, Deferred)
    least, most = SPREADS[FAR]
    assert 3 - (time.monotonic() - started) + least - 0.1 < caught.value.retry_after < 3 + most
    wait_for(lambda: taken(quota, FAR), caught.value.retry_after + 3)
    assert time.monotonic() - started > 2.9


def test_who_asks_first_is_told_and_takes_nothing(shared):
    quota = Quota(shared, 10, delay=0)
    assert quota.hold(ME, FAR) == 0
    assert quota.snapshot().used == 0
    take_all(quota, FAR)

    refused = 62 / 8  # the one that found nothing left stands in line before us
    assert 50 < quota.hold(ME, FAR) < 62 + refused + SPREADS[FAR][1]
    assert quota.hold(ME, NEAR) == 0
    quota.block(ME, 500)
    assert 400 < quota.hold(ME, NEAR) < 500 + SPREADS[NEAR][1]


def test_who_waits_does_not_come_back_together_and_the_urgent_ones_first(shared):
    quota = Quota(shared, 1000, delay=0)
    take_all(quota, UNDO)

    def wait(priority):
        with pytest.raises(errors.CalcomQuotaSpent) as caught:
            quota.take(ME, priority)
        return caught.value.retry_after

    waits = {priority: [] for priority in Priority}
    for _ in range(50):
        for priority, many in waits.items():  # by turns: each as long ago as the others
            many.append(wait(priority))

    assert all(len(set(many)) == 50 for many in waits.values())
    assert max(waits[NEAR]) - min(waits[NEAR]) > 1
    assert sum(waits[UNDO]) < sum(waits[NEAR]) < sum(waits[FAR])


def test_the_more_wait_the_later_each_is_to_come_back_within_a_window(shared):
    quota = Quota(shared, 100, delay=0)
    take_all(quota, UNDO)
    left = quota.hold(ME, UNDO)

    waits = sorted(quota.hold(ME, FAR) - left for _ in range(400))

    pace = 62 / 80
    # The first eighty take turns, in which chance moves them by some seconds; for the others there is none.
    assert waits[0] < SPREADS[FAR][1] + pace
    for begin in range(0, 60, 10):
        back = sum(begin < wait <= begin + 10 for wait in waits)
        assert back < 2 * 400 / 6, f"{back} come back within ten seconds"
    assert waits[-1] < 62 + pace + SPREADS[FAR][1] + 1
    assert quota.hold(ME, NEAR) < left + SPREADS[NEAR][1] + 1, "urgent ones do not stand behind them"


def test_what_has_a_limit_of_its_own_is_stopped_alone(shared):
    quota = Quota(shared, 100, delay=0)

    assert take_all(quota, UNDO, SET_LOCATION) == 5
    assert take_all(quota, UNDO, ADD_GUESTS) == 5
    assert quota.snapshot().used == 10  # those that were put off have used nothing
    quota.block(SET_LOCATION, 60)
    assert taken(quota, FAR)


def test_who_has_several_calls_to_make_is_told_when_there_may_be_something_left_for_each(shared):
    quota = Quota(shared, 100, delay=0)
    with CalcomClient("http://127.0.0.1:9", "cal_x", gate=Gate(quota=quota)) as client:
        assert client.turn(ME, SET_LOCATION) == 0
        take_all(quota, UNDO, SET_LOCATION)
        assert client.turn(ME) == client.turn(ADD_GUESTS) == 0
        refused = 62 / 5  # the one that found nothing left stands in line before us
        assert 50 < client.turn(ADD_GUESTS, SET_LOCATION) < 62 + refused + SPREADS[FAR][1]
        take_all(quota, FAR)
        assert 40 < client.turn(ME) < 62 + 62 / 80 + SPREADS[FAR][1]
        assert client.at(NEAR).turn(ME) == 0
    with CalcomClient("http://127.0.0.1:9", "cal_x") as client:
        assert client.turn(ME) == 0


ANOTHER_WORKER = """
import sys
from sagajobs.calcom import shared
from sagajobs.calcom.errors import CalcomQuotaSpent
from sagajobs.calcom.operations import ME
from sagajobs.calcom.priority import Priority
from sagajobs.calcom.quota import Quota
from sagajobs.calcom.shared import Shared

url, key = sys.argv[1:]
shared.TIMEOUT = 60
try:
    Quota(Shared(lambda: url, key), 120, delay=3).take(ME, Priority.UNDO)
except CalcomQuotaSpent as error:
    print(error.retry_after)
"""


def test_a_429_stops_all_workers_for_as_long_as_it_says(simulator, shared, redis_url, key):
    quota = Quota(shared, 120, delay=3)
    simulator.fault("any", "rate_limit", seconds=1000)
    with CalcomClient(simulator.url, "cal_test_simulator", gate=Gate(quota=quota)) as client:
        with pytest.raises(errors.CalcomRateLimited):
            client.me()
        for call in (client.me, client.at(UNDO).me):
            with pytest.raises(errors.CalcomQuotaSpent):
                call()

    assert len(simulator.calls()) == 1
    assert quota.left(UNDO) == 0
    assert 900 < quota.snapshot().blocked_for <= 1000
    other = subprocess.run(
        [sys.executable, "-c", ANOTHER_WORKER, redis_url, key], capture_output=True, text=True, check=True
    )
    assert 900 < float(other.stdout) <= 1000 + SPREADS[UNDO][1]


def test_a_block_ends_by_itself_and_is_never_shortened(shared):
    quota = Quota(shared, 120, delay=3)
    quota.block(ME, 0.2)
    wait_for(lambda: taken(quota, FAR))

    quota.block(ME, 100)
    quota.block(ME, 0.2)
    assert 50 < quota.snapshot().blocked_for <= 100


def test_a_call_is_charged_with_its_client_s_priority(simulator, shared, new):
    quota = Quota(shared, 10, delay=0)
    with CalcomClient(simulator.url, "cal_test_simulator", gate=Gate(quota=quota)) as client:
        for _ in range(8):
            client.me()
        with pytest.raises(errors.CalcomQuotaSpent):
            client.create_booking(new())
        client.at(NEAR).create_booking(new())
        with pytest.raises(errors.CalcomQuotaSpent):
            client.at(NEAR).find_bookings()
        assert len(client.at(UNDO).find_bookings()) == 1

    assert [call["operation"] for call in simulator.calls()] == ["me"] * 8 + ["create", "list"]


def test_without_redis_calls_go_out_with_one_warning_a_minute(free_port, key, caplog):
    quota = Quota(Shared(lambda: f"redis://:s3cret@127.0.0.1:{free_port}/0", key), 1, delay=0)

    with caplog.at_level(logging.WARNING):
        assert all(taken(quota, FAR) for _ in range(50))
        quota.block(ME, 60)

    assert quota.left(FAR) is None
    assert quota.snapshot() is None
    assert len(caplog.records) == 1
    assert "SAGAJOBS_REDIS_URL" in caplog.text
    assert "s3cret" not in caplog.text


def test_counting_goes_on_where_it_was_when_redis_is_back(own_redis, key, monkeypatch):
    monkeypatch.setattr(shared_module, "AWAY_FOR", 0.1)
    quota = Quota(Shared(lambda: own_redis.url, key), 1, delay=0)
    assert take_all(quota, UNDO) == 1

    own_redis.kill()
    assert taken(quota, UNDO)
    own_redis.start()  # it has forgotten everything

    wait_for(lambda: quota.snapshot() is not None)
    assert take_all(quota, UNDO) == 1


def test_a_frozen_redis_holds_nobody_up_for_long(own_redis, key, monkeypatch):
    monkeypatch.setattr(shared_module, "TIMEOUT", TIMEOUT)
    quota = Quota(Shared(lambda: own_redis.url, key), 1, delay=0)
    wait_for(lambda: not taken(quota, UNDO))
    own_redis.freeze()

    moments = [time.monotonic()]
    while len(moments) <= 100:
        assert taken(quota, UNDO)
        moments.append(time.monotonic())
    waited = [one for one in pairwise(moments) if one[1] - one[0] > TIMEOUT / 2]
    assert len(waited) < 50, "not every one of them waits for it"


def test_priorities_by_the_appointment_s_start(tomorrow):
    assert Priority.of(tomorrow, tomorrow - timedelta(hours=24)) is NEAR
    assert Priority.of(tomorrow, tomorrow - timedelta(hours=25)) is FAR
    assert Priority.of(tomorrow, tomorrow + timedelta(hours=1)) is NEAR
