"""Settings: what is refused, in which words; what is shown; what an unset one means."""

from __future__ import annotations

import os
import traceback

import pytest
from kombu import Connection
from pydantic import SecretStr
from sqlalchemy import make_url

from sagajobs.errors import ConfigurationError
from sagajobs.runtime.servers import resolve
from sagajobs.runtime.settings import BY_FILE, Settings
from sagajobs.runtime.urls import redact

HARD = "a!b@c$d()e*_,/:;=?@ff[]22"
ENCODED = "a%21b%40c%24d%28%29e%2A_%2C%2F%3A%3B%3D%3F%40ff%5B%5D22"


@pytest.fixture(name="load")
def fixture_load(monkeypatch):
    """Load the settings from an environment that holds just what the test says."""
    for name in os.environ:
        if name.startswith("SAGAJOBS_"):
            monkeypatch.delenv(name)

    def load(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"SAGAJOBS_{name}", value)
        return Settings.load()

    return load


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "sqlite:///s3cret.db", "names sqlite, and sagas rely on what PostgreSQL"),
        ("DATABASE_URL", "mysql+pymysql://u:s3cret@h/db", "names mysql, and sagas rely on"),
        ("DATABASE_URL", "postgres://u:s3cret@h/db", "begins with postgres://; write postgresql://"),
        ("DATABASE_URL", "postgresql+asyncpg://u:s3cret@h/db", "asks for the driver asyncpg"),
        ("DATABASE_URL", "postgresql://u:s3cret@h", "names no database"),
        ("DATABASE_URL", "postgresql://u:s3cret/x@h/db", "cannot be read as a URL; percent-encode"),
        ("DATABASE_URL", "postgresql://u:3/s3cret@h/db", "cannot be read as a URL; percent-encode"),
        ("DATABASE_URL", "postgresql://u:s3cret@x@h/db", "cannot be read as a URL; percent-encode"),
        ("DATABASE_URL", "postgresql://u:s3cret%x@h/db", "cannot be read as a URL; percent-encode"),
        ("DATABASE_URL", "postgresql://u:s3cret#x@h/db", "cannot be read as a URL; percent-encode"),
        ("DATABASE_URL", "postgresql://u:[s3cret@h/db", "cannot be read as a URL; percent-encode"),
        ("DATABASE_URL", "postgresql://u:s3cret@h:99999/db", "cannot be read as a URL"),
        ("DATABASE_URL", "s3cret", "is not a URL; write it like postgresql://"),
        (
            "BROKER_URL",
            "sqs://u:s3cret@h",
            "begins with sqs://, and it has to name a Redis, Valkey or",
        ),
        ("BROKER_URL", "amqp://u:s3cret@/", "names no host"),
        ("BROKER_URL", "unix://s3cret/x", "needs the absolute path of a socket"),
        ("BROKER_URL", "redis://u:s3cret@h:0/0", "names port 0"),
        ("QUEUE_PREFIX", "s3cret:*", "is no prefix for queues; use at most 50 letters"),
        ("REDIS_URL", "amqp://u:s3cret@h//", "begins with amqp://, and it has to name a Redis or Valkey"),
        ("CALCOM_URL", "ftp://s3cret", "begins with ftp://, and it has to name Cal.com's HTTP API"),
        ("CALCOM_READ_TIMEOUT", "0", "has to be greater than 0"),
        ("CALCOM_CONNECT_TIMEOUT", "-1", "has to be greater than 0"),
        ("SWEEP_INTERVAL", "nan", "has to be"),
        ("SWEEP_INTERVAL", "inf", "has to be a finite number"),
        ("STALL_AFTER", "s3cret", "has to be a number; correct it"),
        ("CALCOM_QUOTA", "-1", "has to be greater than or equal to 0"),
        ("CALCOM_CIRCUIT_FAILURES", "few", "has to be a whole number"),
        ("CALCOM_CIRCUIT_RESET", "0", "has to be greater than 0"),
        ("WORKER_CONCURRENCY", "1.5", "has to be a whole number"),
        ("WORKER_CONCURRENCY", "0", "has to be greater than or equal to 1"),
        ("SAGA_ENABLED", "perhaps", "has to be true or false"),
        ("LOG_LEVEL", "loud", "is no log level; use one of DEBUG"),
        ("HOME", "some/where", "is a relative path"),
        ("CALCOM_API_KEY", " ", "is blank"),
    ],
)
def test_a_wrong_value_is_one_line_without_the_secret(load, name, value, said):
    with pytest.raises(ConfigurationError) as caught:
        load(**{name: value})
    line = str(caught.value)
    assert line.startswith(f"SAGAJOBS_{name}: ")
    assert said in line
    assert "\n" not in line
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("SAGAJOBS_DATABSE_URL", "SAGAJOBS_DATABASE_URL"),
        ("SAGAJOBS_BROKER", "SAGAJOBS_BROKER_URL"),
        ("sagajobs_calcom_key", "SAGAJOBS_CALCOM_API_KEY"),
    ],
)
def test_a_misspelt_name_is_told_the_right_one(load, monkeypatch, wrong, right):
    monkeypatch.setenv(wrong, "s3cret")
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert str(caught.value) == f"{wrong}: no setting has this name; did you mean {right}?"


def test_all_that_is_wrong_is_told_at_once(load):
    with pytest.raises(ConfigurationError) as caught:
        load(STALL_AFTER="soon", LOG_LEVEL="LOUD", STAL_AFTER="1")
    told = str(caught.value).split("; and ")
    assert [one.partition(":")[0] for one in told] == [
        "SAGAJOBS_STAL_AFTER",
        "SAGAJOBS_LOG_LEVEL",
        "SAGAJOBS_STALL_AFTER",
    ]
    assert "\n" not in str(caught.value)


def test_an_empty_variable_counts_as_unset(load):
    assert load(LOG_LEVEL="", WORKER_CONCURRENCY="") == load()


@pytest.mark.parametrize("name", ["DATABASE_URL", "BROKER_URL", "REDIS_URL", "CALCOM_URL"])
def test_an_empty_url_is_not_taken_for_embedded(load, name):
    with pytest.raises(ConfigurationError, match=f"SAGAJOBS_{name}: is empty"):
        load(**{name: " "})


def test_no_secret_is_shown(load):
    settings = load(
        DATABASE_URL=f"postgresql://u:{ENCODED}@h/db?sslpassword={ENCODED}",
        BROKER_URL=f"amqp://u:{ENCODED}@h//",
        REDIS_URL=f"rediss://:{ENCODED}@h/1",
        CALCOM_URL="https://api.cal.com",
        CALCOM_API_KEY="s3cret",
        CALCOM_WEBHOOK_SECRET="s3cret",  # noqa: S106 - what must not be shown
        SENTRY_DSN="https://s3cret@sentry.io/1",
    )
    shown = f"{settings.describe()} {settings!r} {settings}"
    assert "s3cret" not in shown
    assert ENCODED not in shown
    rows = {row.variable: row for row in settings.describe()}
    assert rows["SAGAJOBS_DATABASE_URL"].value == "postgresql://u:***@h/db?sslpassword=***"
    assert rows["SAGAJOBS_DATABASE_URL"].source == "environment"
    assert rows["SAGAJOBS_SWEEP_INTERVAL"][1:3] == ("1.0", "default")
    assert all(row.meaning for row in rows.values())


def test_with_nothing_set_everything_is_embedded(load):
    rows = {row.variable: row.source for row in load().describe()}
    embedded = {name for name, source in rows.items() if source == "embedded"}
    assert embedded == {
        f"SAGAJOBS_{name}" for name in ("DATABASE_URL", "BROKER_URL", "REDIS_URL", "CALCOM_URL", "CALCOM_API_KEY")
    }
    assert resolve(load()).calcom_api_key.get_secret_value() == "cal_test_simulator"


def test_a_production_database_never_books_into_the_simulator(load):
    settings = load(DATABASE_URL="postgresql://u:p@h/db")
    for what in ("calcom", "calcom_api_key"):
        with pytest.raises(ConfigurationError, match=r"^SAGAJOBS_CALCOM_\w+: is missing"):
            getattr(resolve(settings), what)
    row = next(row for row in settings.describe() if row.variable == "SAGAJOBS_CALCOM_URL")
    assert row[1:3] == ("(not set)", "default")


def test_cal_com_needs_its_key(load):
    with pytest.raises(ConfigurationError, match=r"^SAGAJOBS_CALCOM_API_KEY: is missing while"):
        load(CALCOM_URL="https://api.cal.com")
    urls = resolve(load(CALCOM_URL="https://api.cal.com/", CALCOM_API_KEY="k"))
    assert urls.calcom == "https://api.cal.com"
    assert urls.calcom_api_key == SecretStr("k")


def test_each_client_gets_the_url_as_it_wants_it(load):
    urls = resolve(
        load(
            DATABASE_URL=f"postgresql://u:{ENCODED}@h/db",
            BROKER_URL="unix:///run/r.sock?db=2",
            REDIS_URL="redis+socket:///run/r.sock?virtual_host=3",
        )
    )
    assert make_url(urls.database).drivername == "postgresql+psycopg2"
    assert make_url(urls.database).password == HARD
    assert urls.broker == "redis+socket:///run/r.sock?virtual_host=2"
    assert urls.redis == "unix:///run/r.sock?db=3"
    with Connection(resolve(load(BROKER_URL=f"amqp://u:{ENCODED}@h//")).broker) as connection:
        assert connection.password == HARD


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://u@h/0", "redis://u@h/0"),
        ("redis://:s3cret@h/0", "redis://:***@h/0"),
        ("redis://u:s3@cret/@h/0", "redis://u:***@h/0"),
        ("postgresql://h/db?password=s3cret&x=1", "postgresql://h/db?password=***&x=1"),
    ],
)
def test_redact(url, shown):
    assert redact(url) == shown


SECRET_FILES = {
    "DATABASE_URL": "postgresql://u:s3cret@h/db",
    "BROKER_URL": "redis://:s3cret@h/0",
    "REDIS_URL": "redis://:s3cret@h/1",
    "CALCOM_API_KEY": "s3cret",
    "CALCOM_WEBHOOK_SECRET": "s3cret",
    "FLOWER_LOGIN": "ann:s3cret",
    "SENTRY_DSN": "https://s3cret@sentry.io/1",
}


def test_each_secret_may_stand_in_a_file(load, tmp_path):
    given = {}
    for name, value in SECRET_FILES.items():
        (tmp_path / name).write_text(f"{value}\n")
        given[f"{name}_FILE"] = str(tmp_path / name)
    assert set(BY_FILE) == {name.lower() for name in SECRET_FILES}
    assert set(BY_FILE) >= {
        name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
    }
    settings = load(**given, CALCOM_URL="https://api.cal.com")
    assert settings.database_url == SECRET_FILES["DATABASE_URL"]
    assert settings.flower_login == SecretStr("ann:s3cret")
    rows = {row.variable.removeprefix("SAGAJOBS_"): row for row in settings.describe()}
    assert {name for name, row in rows.items() if row.source == "file"} == set(SECRET_FILES)
    assert "s3cret" not in f"{settings.describe()} {settings!r}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be used (No such file or directory); name a file that holds the value alone"),
        (b" \n", "cannot be used (it is empty)"),
        (b"s3cret\xff", "cannot be used (it is no text)"),
        (b"mysql://u:s3cret@h/db", "names mysql, and sagas rely on"),
    ],
)
def test_a_file_that_is_no_use_is_one_line(load, tmp_path, content, said):
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(DATABASE_URL_FILE=str(file))
    assert str(caught.value).startswith("SAGAJOBS_DATABASE_URL_FILE: ")
    assert said in str(caught.value)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_comes_one_way_and_nothing_else_comes_by_file(load, tmp_path):
    (tmp_path / "key").write_text("k")
    with pytest.raises(ConfigurationError) as caught:
        load(CALCOM_API_KEY_FILE=str(tmp_path / "key"), CALCOM_API_KEY="k", LOG_LEVEL_FILE=str(tmp_path / "key"))
    assert str(caught.value).split("; and ") == [
        "SAGAJOBS_LOG_LEVEL_FILE: no setting has this name; did you mean SAGAJOBS_LOG_LEVEL?",
        "SAGAJOBS_CALCOM_API_KEY_FILE: is set, and so is SAGAJOBS_CALCOM_API_KEY; remove one of them",
    ]


def test_an_empty_name_of_a_file_names_none(load):
    assert load(CALCOM_API_KEY_FILE=" ", CALCOM_API_KEY="k").calcom_api_key == SecretStr("k")


def test_a_login_is_a_name_and_a_password(load):
    for wrong in ("ann", ":s3cret", "ann:"):
        with pytest.raises(
            ConfigurationError, match=r"SAGAJOBS_FLOWER_LOGIN: is no login; write it like NAME:PASSWORD"
        ):
            load(FLOWER_LOGIN=wrong)
    with pytest.raises(ConfigurationError, match=r"SAGAJOBS_FLOWER_LOGIN: has a character beyond ASCII"):
        load(FLOWER_LOGIN="ann:s\u00e4cret")


@pytest.mark.parametrize(
    "wrong", ["s3cret", "https://sentry.io/1", "ftp://s3cret@sentry.io/1", "https://s3cret@sentry.io/"]
)
def test_a_dsn_is_one_of_sentrys(load, wrong):
    with pytest.raises(ConfigurationError, match=r"SAGAJOBS_SENTRY_DSN: is no DSN") as caught:
        load(SENTRY_DSN=wrong)
    assert "s3cret" not in str(caught.value)


def test_a_number_without_an_account_has_a_home(load, monkeypatch):
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for call in ("getuid", "geteuid"):
        monkeypatch.setattr(os, call, lambda: 2_000_000_001)
    assert str(load().home) == "/var/lib/sagajobs"
