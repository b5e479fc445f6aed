"""Is the server there? Each way it may not be has its own line."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from sagajobs.errors import ConfigurationError
from sagajobs.runtime import reachability
from sagajobs.runtime.embedded.binaries import postgres_binaries
from sagajobs.runtime.embedded.postgres import _server_account
from sagajobs.runtime.embedded.redis import _executable
from sagajobs.runtime.reachability import _new_enough, _Unreachable, check_reachable
from sagajobs.runtime.settings import Settings
from sagajobs.testing.waiting import wait_for
from tests.support.ports import free_port

HARD = "a!b@c$d()e*_,/:;=?@ff[]22"
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """A server that stands still with the machine has a line of its own, which is none of these."""
    monkeypatch.setattr(reachability, "TIMEOUT", 60)


@pytest.fixture(name="folder", scope="module")
def fixture_folder():
    path = Path(tempfile.mkdtemp(prefix="sagajobs-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(name="valkey", scope="module")
def fixture_valkey(folder):
    """A server with a password full of special characters; yields its port."""
    port = free_port()
    data = folder / "valkey"
    data.mkdir()
    argv = [_executable(), "--port", str(port), "--requirepass", HARD, "--save", "", "--bind", "127.0.0.1"]
    with subprocess.Popen(argv, cwd=data, stdout=subprocess.DEVNULL) as server:
        wait_for(lambda: is_up("redis", redis_url=f"redis://:{quote(HARD, safe='')}@127.0.0.1:{port}/0"))
        yield port
        server.terminate()


@pytest.fixture(name="postgres", scope="module")
def fixture_postgres(folder):
    """A server with a password full of special characters; yields its port."""
    account = _server_account()
    programs = postgres_binaries(account)
    home = folder / "postgres"
    home.mkdir()
    (home / "password").write_text(HARD, encoding="utf-8")
    os.chown(home, account.uid, account.gid)
    options = {"cwd": home, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if os.geteuid() == 0:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    initdb = [
        "initdb",
        "-D",
        "data",
        "-U",
        "someone",
        "--auth=scram-sha-256",
        "--pwfile=password",
        "--no-sync",
    ]
    subprocess.run([programs / initdb[0], *initdb[1:]], check=True, **options)
    port = free_port()
    argv = [programs / "postgres", "-D", "data", "-p", str(port), "-k", ""]
    with subprocess.Popen(argv, **options) as server:
        where = f"postgresql://someone:{quote(HARD, safe='')}@127.0.0.1:{port}/postgres"
        wait_for(lambda: is_up("database", database_url=where))
        yield port
        server.terminate()


def is_up(name, **values):
    """Tell whether a server has started."""
    try:
        return check_reachable(Settings(**values), name)
    except ConfigurationError:
        return False


def line(name, **values):
    """Return the one line that says why `name` cannot be reached."""
    with pytest.raises(ConfigurationError) as caught:
        check_reachable(Settings(**values), name)
    text = str(caught.value)
    assert "\n" not in text
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert quote(HARD, safe="") not in text
    assert HARD not in text
    return text


def test_a_password_full_of_special_characters_gets_through(valkey, postgres):
    password = quote(HARD, safe="")
    settings = Settings(
        database_url=f"postgresql://someone:{password}@127.0.0.1:{postgres}/postgres",
        broker_url=f"redis://:{password}@127.0.0.1:{valkey}/0",
        redis_url=f"redis://:{password}@127.0.0.1:{valkey}/1",
    )
    found = check_reachable(settings, "database", "broker", "redis")
    assert found["database"].startswith("PostgreSQL 18.")
    assert found["broker"] == found["redis"]
    assert found["redis"].startswith("Valkey ")


def test_each_wrong_database_has_its_line(postgres):
    right = f"someone:{quote(HARD, safe='')}@127.0.0.1:{postgres}"
    where = f"SAGAJOBS_DATABASE_URL: 127.0.0.1:{postgres}: "
    wrong_password = line("database", database_url=f"postgresql://someone:s3cret@127.0.0.1:{postgres}/postgres")
    assert wrong_password.startswith(where)
    assert wrong_password.endswith('"someone"; is the password right?')
    missing = line("database", database_url=f"postgresql://{right}/nowhere")
    assert missing.startswith(where)
    assert 'database "nowhere" does not exist; create it' in missing
    option = line("database", database_url=f"postgresql://{right}/postgres?no_such=1")
    assert 'invalid connection option "no_such"' in option


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("database", "postgresql://u:s3cret@{}/db"),
        ("broker", "redis://u:s3cret@{}/0"),
        ("broker", "amqp://u:s3cret@{}//"),
        ("redis", "redis://u:s3cret@{}/0"),
        ("calcom", "http://u:s3cret@{}"),
    ],
)
def test_nobody_there_and_no_such_host(name, url):
    variable = f"SAGAJOBS_{name.upper()}_URL"
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        refused = line(name, **{f"{name}_url": url.format(f"127.0.0.1:{port}")}, calcom_api_key="k")
    assert refused == f"{variable}: 127.0.0.1:{port}: Connection refused; is it running there?"
    unknown = line(name, **{f"{name}_url": url.format("no-such-host.invalid:5")}, calcom_api_key="k")
    assert unknown.startswith(f"{variable}: no-such-host.invalid:5: ")
    assert unknown.endswith("; is the host's name right?")


@pytest.mark.parametrize("name", ["broker", "redis"])
def test_a_wrong_redis_password(valkey, name):
    said = line(name, **{f"{name}_url": f"redis://:s3cret@127.0.0.1:{valkey}/0"})
    assert said.startswith(f"SAGAJOBS_{name.upper()}_URL: 127.0.0.1:{valkey}: ")
    assert said.endswith("; is the password right?")


def test_rabbitmq():
    try:
        socket.create_connection(("127.0.0.1", 5672), 1).close()
    except OSError:
        pytest.skip("no RabbitMQ on this machine")
    assert check_reachable(Settings(broker_url=RABBITMQ), "broker")["broker"].startswith("RabbitMQ ")
    wrong = line("broker", broker_url="amqp://guest:s3cret@127.0.0.1:5672//")
    assert wrong.endswith("; is the password right?")
    nowhere = line("broker", broker_url="amqp://guest:guest@127.0.0.1:5672/no_such")
    assert "vhost no_such not found; is the virtual host right" in nowhere


def test_another_server_than_meant(valkey):
    port = valkey
    assert f"127.0.0.1:{port}: " in line("calcom", calcom_url=f"http://127.0.0.1:{port}", calcom_api_key="k")


def test_an_old_server_is_refused():
    assert _new_enough("PostgreSQL", "15.0", (15,)) == "PostgreSQL 15.0"
    assert _new_enough("Redis", "6.2.0", (6, 2)) == "Redis 6.2.0"
    with pytest.raises(_Unreachable, match=r"is Redis 6\.0\.20, and sagajobs needs 6\.2 or newer"):
        _new_enough("Redis", "6.0.20", (6, 2))
    with pytest.raises(_Unreachable, match=r"is RabbitMQ 3\.9\.29, and sagajobs needs 3\.10 or newer"):
        _new_enough("RabbitMQ", "3.9.29", (3, 10))


def test_embedded_servers_are_found_and_started_only_when_asked_for(household):
    code = """
import sys
from pathlib import Path
from sagajobs.runtime.reachability import check_reachable
from sagajobs.runtime.settings import Settings
from sagajobs.testing.waiting import wait_for
from tests.support.ports import free_port
print(*check_reachable(Settings(home=Path(sys.argv[2])), "broker", "redis").values(), flush=True)
sys.stdin.readline()
"""
    user = household.user(code=code)
    assert user.url.count("Valkey") == 2
    assert sorted(path.name for path in household.home.iterdir()) == ["redis"]


def test_broker_and_cache_do_not_share_a_database(household):
    code = """
import sys
from pathlib import Path
from sagajobs.runtime.servers import resolve
from sagajobs.runtime.settings import Settings
from sagajobs.testing.waiting import wait_for
from tests.support.ports import free_port
urls = resolve(Settings(home=Path(sys.argv[2])))
print(urls.broker, flush=True)
print(urls.redis, flush=True)
sys.stdin.readline()
"""
    user = household.user(code=code)
    assert user.line().endswith("?virtual_host=0")
    with redis.Redis.from_url(user.line(), socket_timeout=60) as client:
        assert client.connection_pool.connection_kwargs["db"] == 1
