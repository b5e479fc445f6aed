"""`sagas enable` and `sagas disable`: whether the web application books with a saga."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any

import click

from sagajobs.cli.application import ready_database, saga_enabled
from sagajobs.cli.output import json_option, moment, print_json

_Command = Callable[..., Any]


def _signed(command: _Command) -> _Command:
    """Add the options that say who and why."""
    command = click.option("--why", required=True, help="The reason, for those who wonder later.")(command)
    return click.option("--who", default=getpass.getuser, show_default="the login name", help="Who does it.")(command)


@click.command()
@_signed
@json_option
def enable(*, who: str, why: str, as_json: bool) -> None:
    """Book with a saga, from the next second on, in every process and without a restart."""
    _turn(value=True, who=who, why=why, as_json=as_json)


@click.command()
@_signed
@json_option
def disable(*, who: str, why: str, as_json: bool) -> None:
    """Book directly, without a saga, from the next second on; sagas under way are carried out all the same.

    What is lost: nothing is retried, looked for or undone, and no lock keeps two changes of an appointment apart. It
    goes for `create_appointment` and its siblings, which web applications call; one that starts sagas by their own
    classes gets sagas.
    """
    _turn(value=False, who=who, why=why, as_json=as_json)


def _turn(*, value: bool, who: str, why: str, as_json: bool) -> None:
    ready_database()
    switch = saga_enabled()
    turned = switch.turn(value, who=who, why=why)
    if as_json:
        print_json(
            {"switch": switch.name, "value": turned.value, "who": turned.set_by, "why": turned.why, "at": turned.set_at}
        )
    else:
        state = "on" if turned.value else "off"
        click.echo(f"{switch.name} is {state} since {moment(turned.set_at)}, turned by {turned.set_by}: {turned.why}")
