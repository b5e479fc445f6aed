"""Flower's door: the login of the settings, and nobody but this machine where there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from ipaddress import ip_address
from typing import Any

from click import ClickException

from sagajobs.flower.tab import is_ours

_log = logging.getLogger(__name__)

_HERE = "127.0.0.1"

_Start = Callable[[Any], Any]


def guarded(start: _Start) -> _Start:
    """Return `Flower.start_http_server` with a look at the door before it, for a Flower that watches our application.

    What it gives raises `click.ClickException` where others could come in and nobody would be asked for a login.
    """

    @wraps(start)
    def started(flower: Any) -> Any:
        if is_ours(flower):
            _see_to(flower.options)
        return start(flower)

    return started


def _see_to(options: Any) -> None:
    from sagajobs.root import settings  # noqa: PLC0415 - not for the Flower of another project

    login = settings().flower_login
    if options.basic_auth or options.auth:
        return
    if login is not None:
        options.basic_auth = [login.get_secret_value()]
    elif not options.address and not options.unix_socket:
        # Flower itself would listen for everybody.
        _log.warning("Flower has no login, and listens on %s only: see SAGAJOBS_FLOWER_LOGIN", _HERE)
        options.address = _HERE
    elif not (options.unix_socket or _is_here(options.address)):
        raise ClickException(
            f"SAGAJOBS_FLOWER_LOGIN: is missing, and Flower at {options.address} would be open to whoever reaches it; "
            f"set it, or SAGAJOBS_FLOWER_LOGIN_FILE, to NAME:PASSWORD, or start Flower with --address={_HERE}"
        )


def _is_here(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
