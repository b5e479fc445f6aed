"""Server URLs: what makes one usable, how each client wants it, how to show it without its password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

_ENCODE = "percent-encode special characters in user name and password (urllib.parse.quote(text, safe=''))"

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SECRET_PARAMETER = re.compile(r"((?:ssl)?password=)[^&]*", re.IGNORECASE)

_OTHER_DATABASES = ("sqlite", "mysql", "mariadb", "oracle", "mssql")


@dataclass(frozen=True)
class UrlKind:
    """What a URL of one setting may look like.

    Attributes:
        schemes: those that it may begin with.
        example: one that is right.
        needs: what is on the other end, as messages call it.
    """

    schemes: tuple[str, ...]
    example: str
    needs: str


DATABASE = UrlKind(("postgresql", "postgresql+psycopg2"), "postgresql://user:password@host:5432/sagajobs", "PostgreSQL")
BROKER = UrlKind(
    ("redis", "rediss", "redis+socket", "unix", "amqp", "amqps"),
    "redis://host:6379/0 or amqp://user:password@host:5672//",
    "a Redis, Valkey or RabbitMQ server",
)
REDIS = UrlKind(("redis", "rediss", "redis+socket", "unix"), "redis://host:6379/1", "a Redis or Valkey server")
CALCOM = UrlKind(("http", "https"), "https://api.cal.com", "Cal.com's HTTP API")

_SOCKET_SCHEMES = ("unix", "redis+socket")


def check_url(url: str, kind: UrlKind) -> str:
    """Return `url` if a server of `kind` can be found by it.

    Raises:
        ValueError: it cannot; says what is wrong and what to do, and never repeats a part that may be a
        secret.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError(f"is not a URL; write it like {kind.example}")
    if scheme not in kind.schemes:
        raise ValueError(_wrong_scheme(scheme, kind))
    try:
        parts = urlsplit(url)
        _check_parts(parts, kind)
    except _Unusable as problem:
        raise ValueError(str(problem)) from None
    except ValueError:  # of urlsplit, and it may quote a piece of the password
        raise ValueError(f"cannot be read as a URL; {_ENCODE}") from None
    return url


class _Unusable(Exception):
    pass


def _wrong_scheme(scheme: str, kind: UrlKind) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return f"is not a URL; write it like {kind.example}"
    if kind is DATABASE and scheme.startswith(_OTHER_DATABASES):
        other = scheme.partition("+")[0]
        return f"names {other}, and sagas rely on what PostgreSQL alone does; use {kind.example}"
    if kind is DATABASE and scheme == "postgres":
        return f"begins with postgres://; write postgresql://, as in {kind.example}"
    if kind is DATABASE and scheme.startswith("postgresql+"):
        driver = scheme.partition("+")[2]
        return f"asks for the driver {driver}, and only psycopg2 is used; use {kind.example}"
    return f"begins with {scheme}://, and it has to name {kind.needs}; use {kind.example}"


def _check_parts(parts: SplitResult, kind: UrlKind) -> None:
    misread = parts.netloc.count("@") > 1 or "@" in parts.path or "@" in parts.query or parts.fragment
    if misread or _BAD_ESCAPE.search(parts.netloc + parts.path):
        raise _Unusable(f"cannot be read as a URL; {_ENCODE}")
    port = parts.port  # raises ValueError if it is no number
    if port == 0:
        raise _Unusable("names port 0, where nothing can listen; name the server's port")
    if parts.scheme in _SOCKET_SCHEMES:
        if parts.path in {"", "/"} or parts.hostname:
            raise _Unusable(f"needs the absolute path of a socket, as in {parts.scheme}:///run/redis.sock")
        return
    if kind is DATABASE:
        if not parts.path.strip("/"):
            raise _Unusable(f"names no database; write it like {kind.example}")
        return  # without a host it means the socket in libpq's own folder, or the one in ?host=
    if not parts.hostname:
        raise _Unusable(f"names no host; write it like {kind.example}")


def redact(url: str) -> str:
    """Return `url` with the passwords in it replaced by ``***``."""
    scheme, separator, rest = url.partition("://")
    identity, at, place = rest.rpartition("@")
    user, colon, _ = identity.partition(":")
    shown = f"{user}:***" if colon else user
    return _SECRET_PARAMETER.sub(r"\1***", f"{scheme}{separator}{shown}{at}{place}")


def endpoint(url: str) -> str:
    """Return where the server is, for messages: ``host:port`` or the path of its socket."""
    parts = urlsplit(url)
    if parts.scheme in _SOCKET_SCHEMES:
        return parts.path
    if parts.hostname:
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    return parse_qs(parts.query).get("host", ["the local socket"])[0]


def as_database(url: str) -> str:
    """Write a PostgreSQL URL with its driver (SQLAlchemy's default for a bare ``postgresql`` has changed)."""
    return re.sub(r"^postgresql://", "postgresql+psycopg2://", url)


def as_broker(url: str) -> str:
    """Write a socket's URL as Celery (kombu) and Flower want it: ``redis+socket:///path?virtual_host=0``."""
    return _rewrite_socket(url, "redis+socket", {"db": "virtual_host"})


def as_redis(url: str) -> str:
    """Write a socket's URL as redis-py wants it: ``unix:///path?db=0``."""
    return _rewrite_socket(url, "unix", {"virtual_host": "db"})


def _rewrite_socket(url: str, scheme: str, names: dict[str, str]) -> str:
    parts = urlsplit(url)
    if parts.scheme not in _SOCKET_SCHEMES:
        return url
    query = {names.get(name, name): values[-1] for name, values in parse_qs(parts.query).items()}
    question = f"?{urlencode(query)}" if query else ""
    return f"{scheme}://{parts.netloc}{parts.path}{question}"
