"""`sagas enable` and `sagas disable`: whether the web application books with a saga."""

from __future__ import annotations

import click

from sagajobs.cli.application import ready_database, saga_enabled
from sagajobs.cli.help import examples
from sagajobs.cli.operator import signature, who_option
from sagajobs.cli.output import echo, json_option, print_json
from sagajobs.desk.wording import moment
from sagajobs.saga.switches import Switch

why_option = click.option("--why", metavar="REASON", required=True, help="Your reason; it goes on record.")


@click.command(epilog=examples('sagajobs sagas enable --why "the new version is in place"'))
@who_option
@why_option
@json_option
def enable(*, who: str | None, why: str, as_json: bool) -> None:
    """Book with a saga, from the next second on, in every process and without a restart."""
    turn(saga_enabled(), value=True, who=who, why=why, as_json=as_json)


@click.command(epilog=examples('sagajobs sagas disable --why "the database of sagas is moved"'))
@who_option
@why_option
@json_option
def disable(*, who: str | None, why: str, as_json: bool) -> None:
    """Book directly, without a saga, from the next second on; sagas under way are carried out all the same.

    What is lost: nothing is retried, looked for or undone, and no lock keeps two changes of an appointment apart. It
    goes for `create_appointment` and its siblings, which web applications call; one that starts sagas by their own
    classes gets sagas.
    """
    turn(saga_enabled(), value=False, who=who, why=why, as_json=as_json)


def turn(switch: Switch, *, value: bool, who: str | None, why: str, as_json: bool) -> None:
    """Turn a switch for all processes, and say how it stands now."""
    ready_database()
    turned = switch.turn(value, **signature(who, why))
    if as_json:
        print_json(
            {"switch": switch.name, "value": turned.value, "who": turned.set_by, "why": turned.why, "at": turned.set_at}
        )
    else:
        state = "on" if turned.value else "off"
        echo(f"{switch.name} is {state} since {moment(turned.set_at)}, turned by {turned.set_by}: {turned.why}")
