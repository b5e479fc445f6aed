"""`up`: the whole stack in the foreground."""

from __future__ import annotations

import logging

import click

from sagajobs.cli import application
from sagajobs.cli.output import aligned
from sagajobs.cli.stack import Stack, flower_url, free_flower_port, only_one
from sagajobs.runtime.processes import Death, Supervisor, Terminated
from sagajobs.runtime.urls import redact

_REVIVE_EVERY = 5.0
"""Seconds between two looks at the embedded servers: asking for one revives it if its keeper was killed."""

_NEXT = """
In another terminal, with the same SAGAJOBS_… variables:

    sagajobs sagas list          which sagas there are
    sagajobs sagas show ID       what happened to one
    sagajobs invariants          whether both sides agree

Ctrl-C stops everything."""


@click.command()
def up() -> None:
    """Run the whole stack in the foreground until Ctrl-C.

    Servers that are set by URL are checked; where none is set, an embedded one is started. Then come the tables, a
    worker, beat, and Flower (on loopback only). One that dies is started again. Logs are in SAGAJOBS_HOME/logs.
    """
    home = application.settings().home
    # The supervisor's own warning would say the same once more.
    logging.getLogger("sagajobs.runtime.processes").addHandler(logging.NullHandler())
    try:
        with Supervisor(on_death=_mourn) as supervisor, only_one(home / "up.lock", "sagajobs up"):
            _start(supervisor, Stack(home))
            click.echo(_NEXT)
            death = _watch(supervisor)
    except (KeyboardInterrupt, Terminated):
        click.echo("stopped")
        return
    raise click.ClickException(f"{death}, as it dies again and again; see {Stack(home).log(death.name)}")


def _mourn(death: Death) -> None:
    click.echo(f"{death}")


def _start(supervisor: Supervisor, stack: Stack) -> None:
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
    port = free_flower_port()
    for program in (stack.worker(), stack.beat(), stack.flower(port)):
        pid = supervisor.start(program)
        click.echo(f"{program.name} is ready (pid {pid})")
    click.echo(f"Flower is at {flower_url(port)}")


def _watch(supervisor: Supervisor) -> Death:
    """Wait until a child is given up; see to the embedded servers meanwhile."""
    while True:
        death = supervisor.wait(timeout=_REVIVE_EVERY)
        if death is not None:
            return death
        servers = application.servers()
        _ = servers.database, servers.broker, servers.redis, servers.calcom
