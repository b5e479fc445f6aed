"""One HTTP call to Cal.com: sent once, logged without anything private, turned into a value or an error."""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import BaseModel, SecretStr, ValidationError
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from sagajobs.calcom.answers import failure
from sagajobs.calcom.errors import (
    CalcomError,
    CalcomOutcomeUnknown,
    CalcomRefused,
    CalcomUnavailable,
)
from sagajobs.calcom.models import Booking
from sagajobs.calcom.privacy import private_queries
from sagajobs.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagajobs.calcom.operations import Operation

_log = logging.getLogger(__name__)

_SUCCESS = range(200, 300)
_KEY = re.compile(r"[!-~]+")  # visible ASCII: anything else, a line's end say, makes requests quote the header

_Value = TypeVar("_Value", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of a 2xx, still to be understood.

    A change that was answered with success in words we cannot read has been made, or not: only a look can
    tell.
    """

    operation: Operation
    status: int
    request_id: str | None
    content: bytes = field(repr=False)

    def parse(self, kind: type[_Value], *, uid: str | None = None) -> _Value:
        """Return the answer's one value.

        Args:
            kind: what it must be.
            uid: the booking that was asked for, where one was; an answer about another is no answer.

        Raises:
            CalcomOutcomeUnknown: after a change, if it is anything else.
            CalcomRefused: after a read, if it is a series of bookings.
            CalcomUnavailable: after a read, if it is anything else.
        """
        data = self._data()
        if isinstance(data, list) and not self.operation.changes:
            raise self._problem(CalcomRefused, "a series of bookings where one was asked for")
        value = self._validated(kind, data)
        if uid is not None and getattr(value, "uid", None) != uid:
            raise self._unreadable("another booking than the one asked for")
        return value

    def parse_successor(self, uid: str) -> Booking:
        """Return the booking that took the place of another.

        Args:
            uid: of the other.

        Raises:
            CalcomOutcomeUnknown: if it is anything else, or still the old booking.
        """
        booking = self.parse(Booking)
        if booking.uid == uid or booking.rescheduled_from_uid not in {None, uid}:
            raise self._unreadable("not the booking that took the place of the one asked for")
        return booking

    def parse_list(self, kind: type[_Value]) -> list[_Value]:
        """Return the answer's values; one that cannot be read spoils the list: it may be the one looked for.

        Raises:
            CalcomUnavailable: if the answer is not a list of such values.
        """
        data = self._data()
        if not isinstance(data, list):
            raise self._unreadable("no list")
        return [self._validated(kind, row) for row in data]

    def _data(self) -> Any:
        try:
            body = json.loads(self.content)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict) or body.get("status") != "success":
            raise self._unreadable("not the JSON of a success")
        return body.get("data")

    def _validated(self, kind: type[_Value], data: Any) -> _Value:
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            fields = sorted({".".join(str(part) for part in problem["loc"]) for problem in error.errors()})
        raise self._unreadable(f"no {kind.__name__} (wrong: {', '.join(fields) or 'everything'})")

    def _unreadable(self, why: str) -> CalcomError:
        return self._problem(CalcomOutcomeUnknown if self.operation.changes else CalcomUnavailable, why)

    def _problem(self, kind: type[CalcomError], why: str) -> CalcomError:
        return kind(
            f"{self.operation}: {self.status}, but the answer is {why}",
            status=self.status,
            request_id=self.request_id,
        )


class Transport:
    """Sends calls to one base URL with one key; the arguments are those of `CalcomClient`."""

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | str,
        *,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        self.base_url = _checked_base_url(base_url)
        self._auth = _Bearer(api_key)
        self._timeouts = (connect_timeout, read_timeout)
        self._local = threading.local()

    def close(self) -> None:
        """Close the calling thread's connections."""
        session = self._local.__dict__.pop("session", None)
        if session is not None:
            session.close()

    def call(
        self,
        operation: Operation,
        *,
        ref: str = "",
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        personal: tuple[str, ...] = (),
        at_most: float | None = None,
    ) -> Answer:
        """Send one call, once.

        Args:
            operation: which call.
            ref: the id in its path, already known to be harmless there.
            query: its parameters; never logged.
            body: sent as JSON; never logged.
            personal: what the call says about people, to be kept out of errors.
            at_most: seconds to connect and to answer, each, where the client's own are too long.

        Raises:
            CalcomError: one of its subclasses, if the answer is anything but a 2xx.
        """
        started = time.monotonic()
        outcome = self._send(operation, ref, query, body, at_most)
        milliseconds = round((time.monotonic() - started) * 1000)
        # Raised here, where no exception of the HTTP library is being handled: theirs quote URLs and headers,
        # and would hang on ours as its context.
        if isinstance(outcome, CalcomError):
            _log.warning("%s, %d ms", outcome, milliseconds)
            raise outcome
        request_id = outcome.headers.get("X-Request-Id")
        _log.info("%s: %d, request %s, %d ms", operation, outcome.status_code, request_id, milliseconds)
        if outcome.status_code not in _SUCCESS:
            raise failure(
                operation,
                status=outcome.status_code,
                headers=outcome.headers,
                content=outcome.content,
                personal=personal,
            )
        return Answer(operation, outcome.status_code, request_id, outcome.content)

    def _send(
        self,
        operation: Operation,
        ref: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        at_most: float | None,
    ) -> requests.Response | CalcomError:
        connect, read = self._timeouts
        try:
            with private_queries():
                return self._session().request(
                    operation.method,
                    self.base_url + operation.path.format(ref),
                    params=query,
                    json=body,
                    headers={"cal-api-version": operation.version},
                    auth=self._auth,
                    timeout=(min(connect, at_most or connect), min(read, at_most or read)),
                    # A followed redirect turns a POST into a GET, or sends it twice.
                    allow_redirects=False,
                )
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            return _unanswered(operation, error)

    def _session(self) -> requests.Session:
        """Return this thread's session in this process.

        A session is not made for several threads, and a connection taken along through a fork would mix the
        answers of parent and child.
        """
        local = self._local
        if getattr(local, "pid", None) != os.getpid() or not hasattr(local, "session"):
            session = requests.Session()
            adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            session.headers.update({"Accept": "application/json", "User-Agent": "sagajobs"})
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            local.session = session
            local.pid = os.getpid()
        return local.session  # type: ignore[no-any-return]


class _Bearer(AuthBase):
    """Puts the key into each request; being set as `auth`, it also keeps a .netrc from replacing it."""

    def __init__(self, api_key: SecretStr | str) -> None:
        secret = api_key if isinstance(api_key, SecretStr) else SecretStr(api_key)
        if not _KEY.fullmatch(secret.get_secret_value()):
            raise ConfigurationError("the Cal.com API key must be visible ASCII characters, without spaces")
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._secret.get_secret_value()}"
        return request


def _checked_base_url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    else:
        usable = usable and parts.username is None and not parts.query and not parts.fragment
    # The URL is not quoted: what is wrong with it may be a password in it.
    if not usable:
        raise ConfigurationError("the Cal.com URL must be http(s)://host[:port][/path], without user or query")
    return base_url.rstrip("/")


def _unanswered(operation: Operation, error: Exception) -> CalcomError:
    """Return what a call without an answer means; only the class of `error` is named, never its text."""
    what = type(error).__name__
    if _never_sent(error):
        return CalcomUnavailable(f"{operation}: no connection, {what}")
    if operation.changes:
        return CalcomOutcomeUnknown(f"{operation}: sent, but no answer, {what}")
    return CalcomUnavailable(f"{operation}: no answer, {what}")


def _never_sent(error: Exception) -> bool:
    """Tell whether it is certain that not a byte of the request left: no connection was ever made.

    Everything else counts as sent. A connection kept alive that turns out to be dead looks exactly like one
    that dropped after the server had done its work.
    """
    # A ValueError is about what the call would have been made with: a proxy's URL from the environment, say.
    if isinstance(error, requests.ConnectTimeout | ValueError):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(reason, urllib3.exceptions.ProxyError):
        reason = reason.original_error
    if isinstance(reason, urllib3.exceptions.NewConnectionError):
        return True
    # Bad certificates are found in the handshake, before the request.
    return isinstance(reason, urllib3.exceptions.SSLError) and any(
        isinstance(cause, ssl.SSLCertVerificationError) for cause in reason.args
    )
