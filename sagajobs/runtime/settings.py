"""The settings: read from the environment, checked at the start, shown without their secrets.

What is secret may stand in a file instead (`secretfiles`): `SAGAJOBS_CALCOM_API_KEY_FILE` names it, and so on for each
of `BY_FILE`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sagajobs.errors import ConfigurationError
from sagajobs.runtime.secretfiles import FILE_SUFFIX, read_files
from sagajobs.runtime.urls import BROKER, CALCOM, DATABASE, REDIS, UrlKind, check_url, redact

PREFIX = "SAGAJOBS_"
"""What the name of every setting begins with in the environment."""

_EMBEDDABLE = ("database_url", "broker_url", "redis_url")
"""Settings that mean an embedded server while they are not set."""

BY_FILE = (
    "database_url",
    "broker_url",
    "redis_url",
    "calcom_api_key",
    "calcom_webhook_secret",
    "flower_login",
    "sentry_dsn",
)
"""Settings that hold a secret, be it a password within a URL: each may be given by file."""

_KINDS = {"float_parsing": "a number", "int_parsing": "a whole number", "bool_parsing": "true or false"}
"""Pydantic's kinds of unreadable values, in words for those who set them."""

_PREFIX = r"[A-Za-z0-9._-]{0,50}"
"""Of a queue's prefix: what RabbitMQ takes in a name (255 bytes), and no character that Redis or a shell reads."""

_SYSTEM_HOME = Path("/var/lib/sagajobs")
"""Root's home folder, and that of an account which has none of its own."""

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def _url(kind: UrlKind) -> AfterValidator:
    return AfterValidator(lambda url: check_url(url, kind))


def _level(value: str) -> str:
    if value.upper() not in _LEVELS:
        raise ValueError(f"is no log level; use one of {', '.join(_LEVELS)}")
    return value.upper()


def _prefix(value: str) -> str:
    if not re.fullmatch(_PREFIX, value):
        raise ValueError("is no prefix for queues; use at most 50 letters, digits, dots, hyphens and underscores")
    return value


def _not_blank(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("is blank; set it to the secret or remove it")
    return value


def _login(value: SecretStr) -> SecretStr:
    name, colon, password = value.get_secret_value().partition(":")
    if not (name and colon and password):
        raise ValueError("is no login; write it like NAME:PASSWORD")
    if not value.get_secret_value().isascii():
        raise ValueError("has a character beyond ASCII, which Flower cannot compare; use another one")
    return value


def _dsn(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        whole = parts.scheme in ("http", "https") and parts.username and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not parts.path.rpartition("/")[2].isdecimal():
        raise ValueError("is no DSN; copy it from the project's settings in Sentry, like https://KEY@HOST/PROJECT")
    return value


def _absolute(value: Path) -> Path:
    path = value.expanduser()
    if not path.is_absolute():
        raise ValueError("is a relative path, which means another folder in every process; write it in full")
    return path


def _default_home() -> Path:
    if os.geteuid() == 0:
        return _SYSTEM_HOME
    try:
        return platformdirs.user_state_path("sagajobs")
    except RuntimeError:  # no home: a container may run as a number that has no account
        return _SYSTEM_HOME


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Secret = Annotated[SecretStr, AfterValidator(_not_blank)]


class SettingRow(NamedTuple):
    """One setting as a person should see it.

    Attributes:
        variable: its name in the environment.
        value: its value, secrets and passwords replaced.
        source: ``environment``, ``file``, ``default`` or ``embedded``.
        meaning: what it does, in one line.
    """

    variable: str
    value: str
    source: str
    meaning: str


class Settings(BaseSettings):
    """What can be set from outside; use `load` to read it.

    With no URL set, private servers are started where they are needed (`sagajobs.runtime.embedded`).
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,  # a compose file passes an unset variable on as an empty one
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    _from_files: frozenset[str] = PrivateAttr(default=frozenset())

    database_url: Annotated[str, _url(DATABASE)] | None = Field(
        default=None, repr=False, description="PostgreSQL that holds sagas and appointments"
    )
    broker_url: Annotated[str, _url(BROKER)] | None = Field(
        default=None, repr=False, description="Celery's broker: Redis, Valkey or RabbitMQ"
    )
    queue_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="",
        description="what the names of queues, exchanges and cached appointments begin with, where deployments share a "
        "broker or a Redis",
    )
    redis_url: Annotated[str, _url(REDIS)] | None = Field(
        default=None, repr=False, description="Redis or Valkey for cache, quota and circuit breaker"
    )
    calcom_url: Annotated[str, _url(CALCOM)] | None = Field(
        default=None, repr=False, description="Cal.com's API; its simulator if nothing is set"
    )
    calcom_api_key: Secret | None = Field(default=None, description="key for Cal.com's API")
    calcom_webhook_secret: Secret | None = Field(
        default=None, description="secret that Cal.com signs its webhooks with"
    )
    calcom_connect_timeout: Seconds = Field(default=3.0, description="seconds to reach Cal.com")
    calcom_read_timeout: Seconds = Field(default=15.0, description="seconds to wait for Cal.com's answer")
    calcom_quota: Annotated[int, Field(ge=0)] = Field(
        default=120, description="calls a minute that Cal.com takes from the key, all workers together; 0: not counted"
    )
    calcom_circuit_failures: Annotated[int, Field(ge=0)] = Field(
        default=5, description="failed calls in a row after which Cal.com is left alone for a while; 0: never"
    )
    calcom_circuit_reset: Seconds = Field(default=30.0, description="seconds for which it then is left alone")
    home: Annotated[Path, AfterValidator(_absolute)] = Field(
        default_factory=_default_home, description="folder for the data of the embedded servers"
    )
    log_level: Annotated[str, AfterValidator(_level)] = Field(default="INFO", description="least level that is logged")
    saga_enabled: bool = Field(
        default=True, description="off: book directly, without a saga; see sagajobs sagas disable"
    )
    sentry_dsn: Annotated[Secret, AfterValidator(_dsn)] | None = Field(
        default=None, description="Sentry that workers and beat report errors and sweeps to"
    )
    traces: bool = Field(
        default=False,
        description="one OpenTelemetry trace a saga; needs sagajobs[otel], see docs/monitoring.md",
    )
    flower_login: Annotated[Secret, AfterValidator(_login)] | None = Field(
        default=None,
        description="NAME:PASSWORD that Flower asks for; without a login it lets nobody in but this machine",
    )
    stall_after: Seconds = Field(
        default=15.0, description="seconds that a saga may stand still before the sweep looks at it"
    )
    sweep_interval: Seconds = Field(default=1.0, description="seconds between two sweeps for sagas that stand still")
    reconcile_interval: Seconds = Field(
        default=60.0, description="seconds between two days' bookings compared with Cal.com"
    )
    retention_days: Annotated[int, Field(ge=0, le=36500)] = Field(
        default=90, description="days that ended sagas are kept, 0 for ever; appointments and audit log stay"
    )
    worker_concurrency: Annotated[int, Field(ge=1)] = Field(
        default=2, description="steps that one worker runs at the same time"
    )

    @classmethod
    def load(cls) -> Self:
        """Read and check the environment, and the files that it names.

        Raises:
            ConfigurationError: values are wrong, names are not known or files cannot be read; one line that says of
                each what to do.
        """
        by_file, unread = read_files(map(variable_of, BY_FILE))
        given: dict[str, Any] = {name: by_file[variable_of(name)] for name in BY_FILE if variable_of(name) in by_file}
        problems = [*_mistakes(cls), *unread]
        try:
            settings = cls(**given)
        except ValidationError as error:
            told = {problem.partition(":")[0] for problem in problems}
            problems += [
                f"{variable}{FILE_SUFFIX if variable in by_file else ''}: {what}"
                for variable, what in map(_described, error.errors(include_url=False, include_input=False))
                if variable not in told
            ]
        else:
            settings._from_files = frozenset(given)
            if settings.calcom_url is not None and settings.calcom_api_key is None and not unread:
                problems.append(
                    "SAGAJOBS_CALCOM_API_KEY: is missing while SAGAJOBS_CALCOM_URL is set; set it to the API key"
                )
            if not problems:
                return settings
        # Outside the handler: its exception holds the values, which a traceback must not take into a log.
        raise ConfigurationError("; and ".join(problems))

    @property
    def uses_simulator(self) -> bool:
        """Whether Cal.com means the embedded simulator.

        Not when a database was set by hand: a production deployment that forgot Cal.com's URL must not book
        into a simulator.
        """
        return self.calcom_url is None and self.database_url is None

    def describe(self) -> list[SettingRow]:
        """Return every setting with its value, its source and its meaning, in a fixed order."""
        return [
            SettingRow(variable_of(name), *self._shown(name), field.description or "")
            for name, field in type(self).model_fields.items()
        ]

    def _shown(self, name: str) -> tuple[str, str]:
        value: Any = getattr(self, name)
        if name in self._from_files:
            return _text(name, value), "file"
        if name in self.model_fields_set:
            return _text(name, value), "environment"
        if name in _EMBEDDABLE or (name == "calcom_url" and self.uses_simulator):
            return f"(below {self.home})", "embedded"
        if name == "calcom_api_key" and self.uses_simulator:
            return "***", "embedded"
        return _text(name, value), "default"


def variable_of(name: str) -> str:
    """Return the environment variable of the setting `name`."""
    return f"{PREFIX}{name.upper()}"


def _text(name: str, value: Any) -> str:
    if value is None:
        return "(not set)"
    if isinstance(value, SecretStr):
        return "***"
    return redact(value) if name.endswith("_url") else str(value)


def _mistakes(kind: type[Settings]) -> Iterator[str]:
    """Say what is wrong with the names, and with those that have no value."""
    known = [variable_of(name) for name in kind.model_fields]
    known += [f"{variable_of(name)}{FILE_SUFFIX}" for name in BY_FILE]
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)[0]
            yield f"{name}: no setting has this name; did you mean {nearest}?"
        if name.upper().startswith(PREFIX) and name.upper().endswith("_URL") and not os.environ[name].strip():
            # Somebody meant a server; taking it for "embedded" would send production's bookings into an empty database.
            yield f"{name}: is empty; set it to the server's URL, or remove it to use an embedded one"


def _described(problem: Mapping[str, Any]) -> tuple[str, str]:
    """Return a problem of pydantic's as variable and advice, without the value: it may be a secret in a wrong place."""
    cause = problem.get("ctx", {}).get("error")
    variable = variable_of(str(problem["loc"][0]))
    if cause is not None and problem["type"] == "value_error":
        return variable, str(cause)
    what = _KINDS.get(problem["type"]) or problem["msg"].removeprefix("Input should be ")
    return variable, f"has to be {what}; correct it or remove it"
