"""Embedded servers: who starts them, who stops them, and what happens when anybody dies."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis

from sagajobs.runtime.embedded.folders import Place
from sagajobs.runtime.embedded.postgres import _server_account
from sagajobs.runtime.embedded.state import ServerState
from tests.runtime.conftest import is_gone
from tests.support.embedded import answers, query


def put(url, key, value):
    with redis.Redis.from_url(url, socket_timeout=60) as client:
        client.set(key, value)


def get(url, key):
    with redis.Redis.from_url(url, socket_timeout=60) as client:
        return client.get(key)


def is_free(path):
    """Tell whether nobody holds this lock; a process that has ended gives it back a moment later."""
    with path.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("component", ["postgres", "redis"])
def test_the_last_user_gone_leaves_nothing_behind(household, eventually, component):
    first = household.user(component)
    url = first.url
    second = household.user(component)
    assert second.url == url
    socket_folder = Path(url.partition("host=")[2] or url.removeprefix("unix://")).resolve()
    socket_folder = socket_folder if socket_folder.is_dir() else socket_folder.parent
    assert socket_folder.stat().st_mode & 0o077 == 0
    server = household.server()
    assert not server.net_connections("inet"), "a private server listens on no port"
    first.leave()
    assert server.is_running()
    second.leave()
    household.await_gone()
    place = Place(household.home, component)
    assert not place.state.exists()
    eventually(lambda: all(map(is_free, (place.users_lock, place.start_lock, place.keeper_lock))))
    assert not socket_folder.exists()


def test_a_killed_user_counts_as_gone(household):
    user = household.user()
    assert answers(user.url)
    user.kill()
    household.await_gone()


def test_ten_first_users_at_once_get_one_server(household):
    users = [household.user() for _ in range(10)]
    urls = {user.url for user in users}
    assert len(urls) == 1
    assert answers(urls.pop())
    assert len(household.keeper().children()) == 1


def test_threads_of_one_process_share_one_server(household):
    code = """
import sys, threading
from pathlib import Path
from sagajobs.runtime.embedded import acquire
urls = []
use = lambda: urls.append(acquire(sys.argv[1], Path(sys.argv[2])))
threads = [threading.Thread(target=use) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(urls), len(set(urls)), flush=True)
sys.stdin.readline()
"""
    user = household.user(code=code)
    assert user.url == "8 1"
    assert len(household.keepers()) == 1


def test_a_forked_child_is_a_user_too(household):
    code = """
import os, sys
from pathlib import Path
from sagajobs.runtime.embedded import acquire
print(acquire(sys.argv[1], Path(sys.argv[2])), flush=True)
if os.fork():
    os._exit(0)
print(os.getpid(), flush=True)
sys.stdin.readline()
"""
    user = household.user(code=code)
    url = user.url
    child = int(user.line())
    user.process.wait(60)
    os.kill(child, 0)
    assert answers(url)
    assert not is_free(Place(household.home, "redis").users_lock)
    user.process.stdin.close()
    user.process.stdout.close()
    household.await_gone()


def test_a_child_forked_during_a_start_does_not_keep_its_locks(household):
    """Such a child once held the start lock for life, and nobody else got past it."""
    code = """
import os, sys, threading, time
from pathlib import Path
from sagajobs.runtime.embedded import acquire
home = Path(sys.argv[2])
starter = threading.Thread(target=acquire, args=(sys.argv[1], home))
starter.start()
while not (home / sys.argv[1] / "start.lock").exists():
    time.sleep(0.0005)
child = os.fork()
if child == 0:
    sys.stdin.readline()
    os._exit(0)
starter.join()
print(acquire(sys.argv[1], home), flush=True)
sys.stdin.readline()
"""
    user = household.user(code=code)
    url = user.url
    second = household.user()
    assert second.url == url


def test_a_killed_keeper_takes_its_server_along_but_not_the_data(household, eventually, kill):
    user = household.user("postgres")
    url = user.url
    query(url, "CREATE TABLE kept (x int)")
    query(url, "INSERT INTO kept VALUES (7)")
    server, keeper = household.server(), household.keeper()
    kill(keeper)
    eventually(lambda: not server.is_running())
    second = household.user("postgres")
    assert query(second.url, "SELECT x FROM kept") == 7
    assert household.keeper().pid != keeper.pid


def test_everything_killed_at_once_loses_no_commit(household, kill):
    user = household.user("postgres")
    url = user.url
    query(url, "CREATE TABLE kept (x int)")
    query(url, "INSERT INTO kept VALUES (7)")
    server = household.server()
    kill(household.keeper(), server, *server.children(recursive=True), user.process)
    assert query(household.user("postgres").url, "SELECT x FROM kept") == 7


def test_a_killed_server_comes_back_on_the_same_address(household, kill):
    user = household.user("postgres")
    url = user.url
    query(url, "CREATE TABLE kept (x int)")
    query(url, "INSERT INTO kept VALUES (7)")
    keeper, server = household.keeper(), household.server()
    kill(server)
    # A newcomer waits until it is back.
    assert household.user("postgres").url == url
    assert query(url, "SELECT x FROM kept") == 7
    assert household.keeper() == keeper


def test_a_server_that_keeps_dying_is_given_up_and_started_afresh(household, eventually, kill):
    user = household.user()
    url = user.url
    put(url, "k", "v")
    keeper = household.keeper()
    place = Place(household.home, "redis")

    def up():
        state = ServerState.read(place.state)
        return state.process() if state and state.url and answers(url) else None

    killed = []

    def given_up():  # once it has come back five times within a minute
        if server := up():
            kill(server)
            killed.append(server)
        return is_gone(keeper)

    eventually(given_up, 200)
    assert len(killed) > 5
    assert "giving up" in place.keeper_log.read_text(encoding="utf-8")
    second = household.user()
    assert answers(second.url)


def test_sigterm_to_the_keeper_is_a_clean_stop(household):
    user = household.user()
    url = user.url
    put(url, "k", "v")
    household.keeper().terminate()
    household.await_gone()
    again = household.user()
    assert get(again.url, "k") == b"v"


def test_a_user_who_comes_while_the_server_stops_gets_a_fresh_one(household):
    last = household.user()
    assert answers(last.url)
    for _ in range(3):
        next_user = household.user()
        last.kill()
        assert answers(next_user.url)
        last = next_user
    # Now without an overlap: the newcomer meets the stop at whatever point it has reached.
    for _ in range(3):
        last.kill()
        last = household.user()
        assert answers(last.url)


def test_a_starter_killed_before_the_server_is_ready_does_no_harm(household, eventually):
    starter = household.user("postgres")
    cluster = household.home / "postgres" / "cluster"
    eventually(lambda: (cluster / "draft").exists() or (cluster / "data").exists())
    second = household.user("postgres")
    starter.kill()
    assert query(second.url, "SELECT 1") == 1


def test_a_cluster_half_made_is_made_again(household, eventually, kill):
    starter = household.user("postgres")
    cluster = household.home / "postgres" / "cluster"
    eventually(lambda: (cluster / "draft" / "base").exists() or (cluster / "data").exists())
    kill(household.keeper(), starter.process)
    assert query(household.user("postgres").url, "SELECT 1") == 1


def test_a_pid_file_that_names_somebody_else_is_in_nobodys_way(household):
    """As after a container's restart, where the old pid belongs to another program of the same account."""
    household.user("postgres").leave()
    household.await_gone()
    pid_file = household.home / "postgres" / "cluster" / "data" / "postmaster.pid"
    account = _server_account()
    same = {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen([shutil.which("sleep"), "600"], **same) as other:
        pid_file.write_text(f"{other.pid}\n/elsewhere\n0\n5432\n\n\n\n", encoding="ascii")
        assert query(household.user("postgres").url, "SELECT 1") == 1
        assert other.poll() is None
        other.kill()


def test_a_user_who_comes_during_a_stop_waits_for_its_end(household, eventually):
    assert answers(household.user().url)
    keeper, server = household.keeper(), household.server()
    place = Place(household.home, "redis")
    server.suspend()  # so that the stop takes as long as the test wants it to
    keeper.terminate()
    eventually(lambda: not place.state.exists())
    newcomer = household.user()
    process = psutil.Process(newcomer.process.pid)
    eventually(lambda: str(place.start_lock) in [file.path for file in process.open_files()])
    server.resume()
    assert answers(newcomer.url)
    assert household.keeper() != keeper


def test_postgres_is_set_up_for_data_that_matters(household):
    url = household.user("postgres").url
    shown = {
        name: query(url, f"SHOW {name}")
        for name in ("server_encoding", "fsync", "timezone", "max_connections", "listen_addresses")
    }
    assert shown == {
        "server_encoding": "UTF8",
        "fsync": "on",
        "timezone": "UTC",
        "max_connections": "200",
        "listen_addresses": "",
    }
    assert query(url, "SELECT upper('é')") == "É"
    assert query(url, "SELECT current_database()") == "sagajobs"


def test_redis_is_set_up_for_messages_that_matter(household):
    url = household.user().url
    with redis.Redis.from_url(url, decode_responses=True, socket_timeout=60) as client:
        shown = client.config_get("appendonly", "appendfsync", "maxmemory-policy", "save", "port")
    assert shown == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "port": "0",
    }


def test_a_server_that_cannot_start_is_one_clear_line(household, eventually):
    household.user("postgres").leave()
    household.await_gone()
    data = household.home / "postgres" / "cluster" / "data"
    (data / "PG_VERSION").write_text("17\n", encoding="ascii")
    line = household.user("postgres").url
    assert line.startswith("ConfigurationError ")
    assert "was made by PostgreSQL 17 and the embedded one is 18" in line
    (data / "PG_VERSION").write_text("18\n", encoding="ascii")
    (data / "postgresql.conf").write_text("no such setting\n", encoding="ascii")
    line = household.user("postgres").url
    assert "the embedded postgres server does not start: " in line
    assert str(Place(household.home, "postgres").server_log) in line
    household.await_gone()
    place = Place(household.home, "postgres")
    assert not place.state.exists()
    eventually(lambda: is_free(place.start_lock) and is_free(place.keeper_lock))


@pytest.mark.skipif(find_spec("sagajobs.calcom.simulator") is None, reason="no simulator here")
def test_the_simulator_comes_back_on_its_port(household, eventually, kill):
    user = household.user("simulator")
    port = urlsplit(user.url).port

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    assert listens()
    server = household.server()
    kill(server)
    eventually(listens)
    assert household.server() != server
    assert household.user("simulator").url == user.url
    household.end()
    assert not listens()
