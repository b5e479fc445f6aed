"""`up`: the whole stack in the foreground."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import click

from sagajobs.cli import application, webexample
from sagajobs.cli.help import called, examples
from sagajobs.cli.layout import aligned
from sagajobs.cli.receiver import PORT, Receiver
from sagajobs.cli.stack import FLOWER_PORT, LOOPBACK, Stack, flower_url, only_one, port_for
from sagajobs.runtime.processes import Death, Supervisor, Terminated
from sagajobs.runtime.settings import variable_of
from sagajobs.runtime.urls import redact

Command = TypeVar("Command", bound=Callable[..., Any])

_REVIVE_EVERY = 5.0
"""Seconds between two looks at the embedded servers: asking for one revives it if its keeper was killed."""

_NEXT = (
    ("sagas list", "which sagas there are"),
    ("sagas show ID", "what happened to one"),
    ("health", "what is wrong, and what to do about it"),
    ("invariants", "whether both sides agree"),
)


class _Web(NamedTuple):
    """The example web application, or why there is none.

    Attributes:
        port: where it listens, None if it is not started.
        why_not: if it was wanted and cannot be.
    """

    port: int | None = None
    why_not: str | None = None

    @classmethod
    def planned(cls, port: int | None, *, wanted: bool) -> _Web:
        """Return it as the options ask for it; raises `ConfigurationError` where no port is free."""
        why_not = webexample.missing() if wanted else None
        if not wanted or why_not is not None:
            return cls(None, why_not)
        return cls(port_for(port, webexample.PORT, "the example web application"))

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self.port}/"


def _port(name: str, what: str, usual: int) -> Callable[[Command], Command]:
    return click.option(
        f"--{name}-port",
        type=click.IntRange(0, 65535),
        help=f"Port for {what}, on loopback; 0 takes any.  [default: {usual}, or the next free one]",
    )


@click.command(epilog=examples("sagajobs up", "sagajobs up --webhooks-port 9000 --web-port 0"))
@_port("flower", "Flower", FLOWER_PORT)
@_port("webhooks", "Cal.com's webhooks", PORT)
@_port("web", "the example web application", webexample.PORT)
@click.option("--no-web", is_flag=True, help="Do not start the example web application.")
def up(flower_port: int | None, webhooks_port: int | None, web_port: int | None, *, no_web: bool) -> None:
    """Run the whole stack in the foreground until Ctrl-C.

    Servers that are set by URL are checked; where none is set, an embedded one is started. Then come the tables, a
    worker, beat, Flower (on loopback only), and the receiver of Cal.com's webhooks, if SAGAJOBS_CALCOM_WEBHOOK_SECRET
    is set: as `sagajobs webhooks`, it is to be put behind whatever speaks HTTPS for you. The embedded simulator needs
    no secret to be set, and sends its webhooks there by itself. Last comes the example web application, on loopback
    only; while it runs, the simulator sends its webhooks there. One that dies is started again. Logs are in
    SAGAJOBS_HOME/logs.
    """
    home = application.settings().home
    # The supervisor's own warning would say the same once more.
    logging.getLogger("sagajobs.runtime.processes").addHandler(logging.NullHandler())
    try:
        with Supervisor(on_death=_mourn) as supervisor, only_one(home / "up.lock", "sagajobs up"):
            receiver = Receiver.planned(webhooks_port)
            web = _Web.planned(web_port, wanted=not no_web)
            flower = port_for(flower_port, FLOWER_PORT, "Flower")
            _start(supervisor, Stack(home), receiver, web, flower)
            _say_what_is_next()
            death = _watch(supervisor, receiver, web)
    except (KeyboardInterrupt, Terminated):
        click.echo("stopped")
        return
    raise click.ClickException(f"{death}, as it dies again and again; see {Stack(home).log(death.name)}")


def _say_what_is_next() -> None:
    click.echo("\nIn another terminal, with the same SAGAJOBS_… variables:\n")
    for line in aligned([(f"{called()} {command}", shows) for command, shows in _NEXT]):
        click.echo(f"    {line}")
    click.echo("\nCtrl-C stops everything.")


def _mourn(death: Death) -> None:
    click.echo(f"{death}")


def _start(supervisor: Supervisor, stack: Stack, receiver: Receiver | None, web: _Web, flower: int) -> None:
    found = stack.prepare()
    servers, settings = application.servers(), application.settings()
    calcom = "simulator" if settings.uses_simulator else found["calcom"]
    for line in aligned(
        [
            ("database", found["database"], redact(servers.database)),
            ("broker", found["broker"], redact(servers.broker)),
            ("redis", found["redis"], redact(servers.redis)),
            ("Cal.com", calcom, redact(servers.calcom)),
        ]
    ):
        click.echo(line)
    programs = [stack.worker(), stack.beat(), stack.flower(flower)]
    if receiver is not None:
        programs.append(stack.webhooks(receiver.port, receiver.secret))
    if web.port is not None:
        programs.append(stack.web(web.port, receiver.secret if receiver else None))
    for program in programs:
        pid = supervisor.start(program)
        click.echo(f"{program.name} is ready (pid {pid})")
    click.echo(f"Flower is at {flower_url(flower)}")
    if receiver is None:
        click.echo(f"webhooks are not received, as {variable_of('calcom_webhook_secret')} is not set")
    else:
        click.echo(f"webhooks are received at {receiver.url}")
    if web.port is not None:
        click.echo(f"the example web application is at {web.url}")
    elif web.why_not is not None:
        click.echo(f"the example web application is not started: {web.why_not}")


def _watch(supervisor: Supervisor, receiver: Receiver | None, web: _Web) -> Death:
    """Wait until a child is given up; see to the embedded servers meanwhile, and that the simulator sends webhooks."""
    while True:
        if receiver is not None and receiver.simulated:
            receiver.subscribe(receiver.url if web.port is None else f"{web.url}{webexample.WEBHOOKS}")
        death = supervisor.wait(timeout=_REVIVE_EVERY)
        if death is not None:
            return death
        servers = application.servers()
        _ = servers.database, servers.broker, servers.redis, servers.calcom
