"""docker-compose.yml, as far as it can be seen without Docker: valid, closed, complete, and true to the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import suppress
from importlib import resources
from urllib.parse import urlsplit

import pytest
import redis
from jsonschema import Draft202012Validator

from sagajobs.errors import ConfigurationError
from sagajobs.root import CALL_MARGIN
from sagajobs.runtime.embedded import redis as embedded
from sagajobs.runtime.secretfiles import FILE_SUFFIX
from sagajobs.runtime.servers import resolve
from sagajobs.runtime.settings import BY_FILE, Settings, variable_of
from sagajobs.saga.declaration import LEASE_MARGIN
from sagajobs.saga.executor import UNDO_BUDGET
from sagajobs.testing.waiting import wait_for
from tests.deploy.files import COMPOSE, OURS, ROOT, UNITS, compose, example, interpolated, unit, variables

SECRETS = "/run/secrets/"
SERVICES = compose()["services"]
BY_FILE_NAMES = {f"{variable_of(name)}{FILE_SUFFIX}" for name in BY_FILE}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """The folder of secrets, as deploy/secrets.sh makes it."""
    folder = tmp_path_factory.mktemp("deploy")
    script = shutil.copy(ROOT / "deploy" / "secrets.sh", folder)
    for _ in range(2):
        environment = {"PATH": os.environ["PATH"], "CALCOM_API_KEY": "cal_test"}
        done = subprocess.run([script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "", "a second run makes nothing anew"
    return folder / "secrets"


@pytest.fixture
def load(monkeypatch, secrets):
    """Load the settings as a service would."""

    def settings(service, **environment):
        for name in [name for name in os.environ if name.startswith("SAGAJOBS_")]:
            monkeypatch.delenv(name)
        whole = compose(**environment)
        if whole["services"][service]["env_file"]:  # the file that it is put in from is handed over as a whole, too
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
        for name, value in whole["services"][service]["environment"].items():
            if value is None:  # it is passed through, if there is one
                if name in environment:
                    monkeypatch.setenv(name, environment[name])
                continue
            source = value.removeprefix(SECRETS)
            if source == value:
                monkeypatch.setenv(name, value)
                continue
            assert source in whole["services"][service]["secrets"], name
            monkeypatch.setenv(name, str(secrets / whole["secrets"][source]["file"].removeprefix("./deploy/secrets/")))
        return Settings.load()

    return settings


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_it_is_what_compose_takes(broker):
    schema = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    validator = Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(compose(BROKER=broker))] == []


def test_the_resolver_leaves_no_variable_without_a_value():
    assert interpolated("${A:-b}$$c${D:-}", {"D": "d"}) == "b$cd"
    assert interpolated("${A-b}${C-d}${E:-f}", {"C": "", "E": ""}) == "bf"
    for bad in ("${A}", "${A:?say}", "$A"):
        with pytest.raises(AssertionError):
            interpolated(bad, {})


def test_env_example_has_every_variable_and_its_default():
    settings = {variable_of(name): field.default for name, field in Settings.model_fields.items()}
    told = example()
    assert set(variables()) <= set(told)
    for name, value in told.items():
        if name in variables():
            assert value == variables()[name], name
        elif name in settings:
            assert value in {"", str(settings[name])}, name
        else:
            assert name == "COMPOSE_PROFILES"
    assert {name for name in told if name.startswith("SAGAJOBS_")} <= {*settings, *BY_FILE_NAMES}


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_closed_in(name):
    service = SERVICES[name]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["init"] is True
    assert not {"privileged", "cap_add", "pid", "network_mode", "devices"} & set(service)
    assert "docker.sock" not in json.dumps(service)
    assert {"mem_limit", "cpus", "pids_limit", "stop_grace_period"} <= set(service)
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    if name not in OURS:
        assert not re.search(r":latest$|^[^:]+$", service["image"])
        assert service["networks"] == ["inside"]


def test_a_network_of_its_own_has_no_way_out():
    assert compose()["networks"]["inside"]["internal"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_a_health_check_or_runs_once(name):
    service = SERVICES[name]
    if name == "migrate":
        assert service["restart"] == "no"
        return
    assert service["restart"] == "unless-stopped"  # also where Celery ends a worker that it calls unrecoverable
    check = service["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    for other, how in service.get("depends_on", {}).items():
        assert other in SERVICES
        once = SERVICES[other].get("restart") == "no"
        assert how["condition"] == ("service_completed_successfully" if once else "service_healthy")
        assert how.get("required", True) is ("profiles" not in SERVICES[other])
    if name in ("worker", "beat", "flower", "webhooks"):
        assert {"postgres", "redis", "migrate"} <= set(service["depends_on"])


def test_no_secret_stands_in_it_and_each_is_handed_over_by_file():
    assert re.findall(r"://[^/\s]*:[^/\s]*@", COMPOSE) == []
    given = set()
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASS|SECRET|KEY|DSN|LOGIN|_URL", name) and name != "SAGAJOBS_CALCOM_URL":
                if value is None:  # passed through
                    assert f"{name}_FILE" in service["environment"], name
                    continue
                if value == "":  # kept away, whatever .env says
                    continue
                assert name.endswith("_FILE"), name
                assert value.startswith(SECRETS), name
                given.add(name)
    assert given - {"POSTGRES_PASSWORD_FILE"} == BY_FILE_NAMES - {"SAGAJOBS_SENTRY_DSN_FILE"}  # that one may be missing


BY_ENVIRONMENT = {
    "database_url": ("worker", "postgresql://u:p@elsewhere/d"),
    "broker_url": ("beat", "redis://:p@elsewhere/0"),
    "redis_url": ("migrate", "redis://:p@elsewhere/1"),
    "calcom_api_key": ("worker", "cal_another"),
    "calcom_webhook_secret": ("webhooks", "another secret"),
    "flower_login": ("flower", "me:secret"),
}


def test_each_secret_may_come_by_environment_in_place_of_its_file(load):
    assert set(BY_ENVIRONMENT) == set(BY_FILE) - {"sentry_dsn"}
    for name, (service, value) in BY_ENVIRONMENT.items():
        variable = variable_of(name)
        settings = load(service, **{variable: value, f"{variable}_FILE": ""})
        row = next(row for row in settings.describe() if row.variable == variable)
        assert row.source == "environment", name
        found = getattr(settings, name)
        assert (found if isinstance(found, str) else found.get_secret_value()) == value
        with pytest.raises(ConfigurationError, match=f"{variable}_FILE: is set, and so is {variable}; remove one"):
            load(service, **{variable: value})


def test_what_one_service_is_given_no_other_one_asks_for_or_sees(load):
    told = {name: value for name, value in example().items() if name.startswith("SAGAJOBS_")}
    for service in OURS[:-1]:
        load(service, **told)  # every line of .env.example, those in comments, too
    theirs = {name: BY_ENVIRONMENT[name] for name in ("calcom_webhook_secret", "flower_login")}
    by_environment = {variable_of(name): value for name, (_, value) in theirs.items()}
    by_environment |= {f"{variable}_FILE": "" for variable in by_environment}
    for service in OURS[:-1]:
        settings = load(service, **by_environment)
        for name, (owner, _) in theirs.items():
            assert (getattr(settings, name) is not None) == (service == owner), (service, name)
    assert OURS[-1] == "simulator"
    assert SERVICES["simulator"]["env_file"] == [], "it has no settings"


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_each_service_has_its_settings_from_the_files_that_secrets_sh_makes(load, secrets, broker):
    whole = compose(BROKER=broker)
    for secret in whole["secrets"].values():
        file = secrets / secret["file"].removeprefix("./deploy/secrets/")
        assert file.read_text().strip()
        assert file.stat().st_mode & 0o777 == 0o644  # the containers' accounts read it
    assert secrets.stat().st_mode & 0o777 == 0o700  # and nobody else gets there
    for name in ("migrate", "worker", "beat", "flower", "webhooks"):
        settings = load(name, BROKER=broker)
        urls = resolve(settings)
        for url in (urls.database, urls.redis, urls.broker):
            assert urlsplit(url).hostname in SERVICES
        assert urlsplit(urls.broker).hostname == broker
        assert urls.calcom == "https://api.cal.com"
        assert urlsplit(urls.database).password == (secrets / "postgres_password").read_text().strip()
        assert f"requirepass {urlsplit(urls.redis).password}" == (secrets / "redis.conf").read_text().strip()
        assert {row.source for row in settings.describe() if row.value.startswith(("***", "postgres"))} == {"file"}
    assert load("flower").flower_login.get_secret_value().startswith("operator:")
    rabbitmq = (secrets / "rabbitmq.conf").read_text()
    assert f"default_pass = {urlsplit((secrets / 'broker_url.rabbitmq').read_text().strip()).password}" in rabbitmq
    assert len({file.read_text() for file in secrets.iterdir()}) == len(list(secrets.iterdir()))


def test_a_worker_is_given_the_time_that_its_longest_delivery_takes():
    """By the defaults of the settings: who raises Cal.com's time-outs has to raise this, too."""
    fields = Settings.model_fields
    call = fields["calcom_connect_timeout"].default + fields["calcom_read_timeout"].default + CALL_MARGIN
    longest = UNDO_BUDGET + 2 * call + LEASE_MARGIN
    assert float(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) >= longest
    (worker,) = (path for path in UNITS if "worker" in path.name)
    assert float(dict(unit(worker))["TimeoutStopSec"]) >= longest


def test_a_real_server_takes_the_command_of_redis_and_asks_for_the_password(secrets, tmp_path):
    program, file, *options = SERVICES["redis"]["command"]
    assert (program, file) == ("redis-server", f"{SECRETS}redis.conf")
    place = ["--port", "0", "--unixsocket", str(tmp_path / "s"), "--dir", str(tmp_path)]
    argv = [embedded._executable(), str(secrets / "redis.conf"), *options, *place]
    password = urlsplit((secrets / "redis_url").read_text().strip()).password
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as server:
        try:
            with redis.Redis(unix_socket_path=str(tmp_path / "s"), password=password, socket_timeout=60) as client:
                wait_for(lambda: _answers(client))
                found = client.config_get("appendonly", "maxmemory-policy")
                assert found == {"appendonly": "yes", "maxmemory-policy": "noeviction"}
            with (
                redis.Redis(unix_socket_path=str(tmp_path / "s")) as stranger,
                pytest.raises(redis.exceptions.AuthenticationError),
            ):
                stranger.ping()
        finally:
            server.terminate()


def _answers(client: redis.Redis) -> bool:
    with suppress(redis.exceptions.ConnectionError):
        return bool(client.ping())
    return False
