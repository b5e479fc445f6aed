"""`events`: lifecycle events for others, on the broker: on or off, how many wait, who subscribes."""

from __future__ import annotations

import click

from sagajobs.cli.application import bus, engine, ready_database, saga_events
from sagajobs.cli.help import examples
from sagajobs.cli.operator import signature, who_option
from sagajobs.cli.output import echo, json_option, print_json
from sagajobs.cli.switch import turn, why_option
from sagajobs.desk.wording import span
from sagajobs.saga.outbox import waiting
from sagajobs.saga.subscriptions import end_subscription, make_subscription


@click.group(epilog=examples("sagajobs events status", 'sagajobs events on --why "the reports need them"'))
def events() -> None:
    """Tell other programs what becomes of sagas, as CloudEvents on the broker."""


@events.command(epilog=examples("sagajobs events status", "sagajobs events status --json"))
@json_option
def status(*, as_json: bool) -> None:
    """Say whether events are kept for others, how many wait in the outbox, and how many in each subscription."""
    ready_database()
    turned = saga_events().turned()
    kept = turned is not None and turned.value
    count, oldest = waiting(engine())
    if not as_json:  # at once: with the broker away this is what there is to be told, and then that it is away
        echo(f"events are {'on' if kept else 'off'}")
        echo(f"in the outbox: {count}" + (f", the oldest for {span(oldest)}" if count else ""))
    subscriptions = bus().subscriptions()
    if as_json:
        print_json(
            {
                "on": kept,
                "outbox": {"events": count, "oldest_seconds": oldest},
                "subscriptions": subscriptions,
            }
        )
        return
    if subscriptions is None:
        echo("subscriptions: RabbitMQ knows (rabbitmqctl list_queues)")
        return
    for name, events_left in subscriptions.items():
        echo(f"subscription {name}: {events_left} not taken yet")
    if not subscriptions:
        echo("nobody subscribes")


@events.command("on", epilog=examples('sagajobs events on --why "the reports need them"'))
@who_option
@why_option
@json_option
def turn_on(*, who: str | None, why: str, as_json: bool) -> None:
    """Keep what becomes of sagas from now on for others."""
    turn(saga_events(), value=True, who=who, why=why, as_json=as_json)


@events.command("off", epilog=examples('sagajobs events off --why "no reports any more"'))
@who_option
@why_option
@json_option
def turn_off(*, who: str | None, why: str, as_json: bool) -> None:
    """Keep nothing more for others; what is in the outbox is sent all the same."""
    turn(saga_events(), value=False, who=who, why=why, as_json=as_json)


@events.command(
    epilog=examples(
        'sagajobs events subscribe reports --why "the monthly report counts ends"',
        "sagajobs events subscribe failures --pattern '*.step_failed' --why \"the team is told\"",
    )
)
@click.argument("name")
@click.option(
    "--pattern", metavar="PATTERN", default="#", show_default=True, help="Which: SAGA.EVENT, * for any, # for all."
)
@who_option
@why_option
@json_option
def subscribe(*, name: str, pattern: str, who: str | None, why: str, as_json: bool) -> None:
    """Keep events for a subscriber, whether it runs or not."""
    signed = signature(who, why)
    make_subscription(ready_database(), bus(), name, pattern, **signed)
    if as_json:
        print_json({"subscription": name, "pattern": pattern, **signed})
        return
    echo(f"subscription {name} keeps events from now on")


@events.command(epilog=examples('sagajobs events unsubscribe reports --why "nobody reads them any more"'))
@click.argument("name")
@who_option
@why_option
@json_option
def unsubscribe(*, name: str, who: str | None, why: str, as_json: bool) -> None:
    """End a subscription, with what nobody has taken of it."""
    signed = signature(who, why)
    left = end_subscription(ready_database(), bus(), name, **signed)
    if as_json:
        print_json({"subscription": name, "dropped": left, **signed})
        return
    echo(f"subscription {name} is ended; {left} events that nobody had taken are gone with it")
