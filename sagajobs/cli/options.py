"""Options that several commands have: how long ago, how fast, which cases."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import click

from sagajobs.cli import completing
from sagajobs.cli.application import engine, load_kinds
from sagajobs.cli.output import echo
from sagajobs.errors import ConfigurationError
from sagajobs.saga.cases import Sieve

Command = TypeVar("Command", bound=Callable[..., Any])

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    found = re.fullmatch(r"(\d{1,6}) ?(s|min|h|d)", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no length of time; write 90s, 5min, 2h or 3d")
    return float(found[1]) * _SECONDS[found[2]]


def _per_second(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    found = re.fullmatch(r"(\d{1,6})/(s|min|h)", value)
    if found is None or int(found[1]) == 0:
        raise click.BadParameter(f"{value!r} is no rate; write 2/s, 30/min or 100/h")
    return float(found[1]) / _SECONDS[found[2]]


class Number(click.IntRange):
    """A whole number within a range, called by what it is a number of where something else was typed."""

    def __init__(self, what: str, least: int, most: int) -> None:
        super().__init__(least, most)
        self.name = f"number of {what}"


def limit_option(what: str, default: int = 50, told: str = "So many at most.") -> Callable[[Command], Command]:
    """Return the option that says how many are taken at most.

    Args:
        what: they are, such as "sagas".
        default: how many, if nothing is said.
        told: in the help.
    """
    kind = Number(what, 1, 10_000)
    return click.option("--limit", metavar="N", type=kind, default=default, show_default=True, help=told)


def older_than_option(what: str) -> Callable[[Command], Command]:
    """Return the option that says how old something is at least, in seconds.

    Args:
        what: is so old, for the help.
    """
    return click.option(
        "--older-than",
        metavar="TIME",
        default="0s",
        callback=_seconds,
        help=f"Only {what} so long ago or earlier: 90s, 5min, 2h, 3d.",
    )


rate_option = click.option(
    "--rate",
    metavar="N/TIME",
    default="30/min",
    show_default=True,
    callback=_per_second,
    help="Of many cases, settle so many in a time: 2/s, 30/min, 100/h.",
)
"""The option that says how many cases are settled in a second, at most.

A case that is set going again looks or undoes first, which is two or three calls to Cal.com that queue behind nobody
(`calcom.quota`): 30 a minute leave others a quarter of the 120 that a key has.
"""

name_option = click.option(
    "--name",
    metavar="KIND",
    shell_complete=completing.kinds,
    help="Only sagas of this kind, such as appointment_creation.",
)
"""The option that names a kind of saga."""


def tell_of_unknown_kind(name: str | None) -> None:
    """Say on standard error that no kind of saga has this name, if none has: nothing was found, as it is mistyped."""
    if name is None:
        return
    with suppress(ConfigurationError):  # an author's module that cannot be imported here: its kinds are not known
        load_kinds()
    if name not in engine().kinds:
        echo(f"no kind of saga is called {name!r}; there are {', '.join(sorted(engine().kinds))}", err=True)


def sieve_options(command: Command) -> Command:
    """Give a command the options that say which open cases are meant; `sieve` makes one value of them."""
    for option in (
        older_than_option("cases that were opened"),
        click.option("--step", metavar="STEP", help="Only cases about this step."),
        name_option,
        click.option(
            "--cause",
            metavar="TEXT",
            shell_complete=completing.causes,
            help="Only cases whose error is of this class, or says this in its message.",
        ),
    ):
        command = option(command)
    return command


def sieve(*, cause: str | None, name: str | None, step: str | None, older_than: float) -> Sieve:
    """Return which open cases the options of `sieve_options` mean.

    Raises:
        click.UsageError: one is empty, as where a shell's variable is not set: it would let all cases through, or none.
    """
    for option, value in (("--cause", cause), ("--name", name), ("--step", step)):
        if value is not None and not value.strip():
            raise click.UsageError(f"{option} is empty: say which cases are meant, or leave it out")
    return Sieve(name=name, step=step, cause=cause, older_than=older_than)
