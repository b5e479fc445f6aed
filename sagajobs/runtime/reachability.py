"""Is each server there, does it let us in, is it new enough? One clear line if not."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, get_args

import kombu
import kombu.exceptions
import psycopg2
import redis
import requests
from sqlalchemy import make_url

from sagajobs.errors import ConfigurationError
from sagajobs.runtime.servers import resolve
from sagajobs.runtime.settings import variable_of
from sagajobs.runtime.urls import endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from sagajobs.runtime.settings import Settings

ServerName = Literal["database", "broker", "redis", "calcom"]

TIMEOUT = 5
"""Seconds that one server may take to answer."""

OLDEST_POSTGRES = (15,)
OLDEST_REDIS = (6, 2)
OLDEST_RABBITMQ = (3, 10)

_POSTGRES_PREFACE = re.compile(r".*failed: (?:FATAL: +)?|FATAL: +|could not connect to server: ")

_PREFACE = re.compile(
    r"Error -?\d+ connecting to \S+\. |\[Errno -?\d+\] |\(0, 0\): \(\d+\) |Connection\.open: \(\d+\) "
)
"""What redis-py, Python and amqp put before what the server or the system said."""

_ADVICE = (
    (r"connection refused|no such file", "is it running there?"),
    (
        r"translate host|not known|name resolution|no address associated|nodename",
        "is the host's name right?",
    ),
    (r"authentication|password|noauth|wrongpass|access_refused|login was refused", "is the password right?"),
    (r"database .* does not exist", "create it (CREATE DATABASE …) or correct the name"),
    (r"role .* does not exist", "is the user's name right?"),
    (r"not_allowed|vhost", "is the virtual host right, and may the user enter it?"),
    (r"time(d )?.?out", "is the address right, and no firewall between?"),
)
"""What to do, by what the server or the system said."""


class _Unreachable(Exception):
    """What the server, or the way to it, said."""


def check_reachable(settings: Settings, *names: ServerName) -> dict[ServerName, str]:
    """Connect to each server and see that it can be used.

    Args:
        settings: where the servers are; embedded ones are started.
        names: which servers; all of them if none is named.

    Returns:
        What each one is: ``{"database": "PostgreSQL 18.1", …}``.

    Raises:
        ConfigurationError: one is not there, does not let us in or is too old; one line, without a password.
    """
    urls = resolve(settings)
    found: dict[ServerName, str] = {}
    for name in names or get_args(ServerName):
        url: str = getattr(urls, name)
        try:
            found[name] = _CHECKS[name](url)
        except _Unreachable as reason:
            # Cut off from its causes: they may quote the URL, password and all.
            raise ConfigurationError(_line(settings, name, url, str(reason))) from None
    return found


def _line(settings: Settings, name: ServerName, url: str, reason: str) -> str:
    given = getattr(settings, f"{name}_url") is not None
    subject = variable_of(f"{name}_url") if given else f"the embedded server for {variable_of(f'{name}_url')}"
    advice = next((text for pattern, text in _ADVICE if re.search(pattern, reason, re.IGNORECASE)), None)
    return f"{subject}: {endpoint(url)}: {reason}" + (f"; {advice}" if advice else "")


def _check_postgres(url: str) -> str:
    parsed = make_url(url)
    positional, options = parsed.get_dialect()().create_connect_args(parsed)
    options.setdefault("connect_timeout", TIMEOUT)
    try:
        with closing(psycopg2.connect(*positional, **options)) as connection:
            number = connection.server_version  # 180001 for 18.1
    except psycopg2.Error as error:
        # One line per address that was tried; the last one is where it got furthest.
        said = [line for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
        raise _Unreachable(_POSTGRES_PREFACE.sub("", said[-1], count=1)) from None
    return _new_enough("PostgreSQL", f"{number // 10_000}.{number % 10_000}", OLDEST_POSTGRES)


def _check_redis(url: str) -> str:
    try:
        with redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT) as client:
            return _identify_redis(client)
    except (redis.exceptions.RedisError, OSError, ValueError) as error:
        raise _Unreachable(_said(error)) from None


def _identify_redis(client: redis.Redis) -> str:
    facts = client.info("server")
    # Valkey names the Redis version that it is compatible with, too: that is the one to compare.
    compatible = _new_enough("Redis", str(facts["redis_version"]), OLDEST_REDIS)
    return f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else compatible


def _check_broker(url: str) -> str:
    # By way of kombu, as Celery does it: what it makes of the URL is what counts.
    rabbitmq = url.startswith("amqp")
    options = {} if rabbitmq else {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
    with kombu.Connection(url, connect_timeout=TIMEOUT, transport_options=options) as connection:
        errors: tuple[type[BaseException], ...] = (
            *(*connection.connection_errors, *connection.channel_errors),
            *(kombu.exceptions.KombuError, OSError, ValueError),
        )
        try:
            # By default kombu would wait two seconds between its two attempts.
            connection.ensure_connection(max_retries=1, interval_start=0, reraise_as_library_errors=False)
            if not rabbitmq:
                channel: Any = connection.channel()
                return _identify_redis(channel.client)
            facts = connection.connection.server_properties
        except errors as error:
            raise _Unreachable(_said(error)) from None
        return _new_enough(str(facts["product"]), str(facts["version"]), OLDEST_RABBITMQ)


def _check_calcom(url: str) -> str:
    try:
        # Any answer will do: whether the key is right is not to be found out at every start.
        answer = requests.get(url, timeout=TIMEOUT, allow_redirects=False)
    except requests.RequestException as error:
        raise _Unreachable(_root_cause(error)) from None
    return f"HTTP {answer.status_code}"


_CHECKS: dict[ServerName, Callable[[str], str]] = {
    "database": _check_postgres,
    "broker": _check_broker,
    "redis": _check_redis,
    "calcom": _check_calcom,
}


def _new_enough(product: str, version: str, oldest: tuple[int, ...]) -> str:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[: len(oldest)])
    if numbers < oldest:
        needed = ".".join(str(number) for number in oldest)
        raise _Unreachable(f"is {product} {version}, and sagajobs needs {needed} or newer")
    return f"{product} {version}"


def _said(error: BaseException) -> str:
    text = _PREFACE.sub("", " ".join(str(error).split()))
    return text.rstrip(".") or type(error).__name__


def _root_cause(error: BaseException) -> str:
    """Return what lies at the bottom: requests and urllib3 wrap it in the names of their own objects."""
    while error.__context__ is not None:
        error = error.__context__
    return _said(error)
