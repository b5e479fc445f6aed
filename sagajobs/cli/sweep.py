"""`sweep`: one recovery sweep, without beat."""

from __future__ import annotations

import click

from sagajobs.cli.application import engine, ready_database, settings
from sagajobs.cli.output import json_option, print_json
from sagajobs.runtime.reachability import check_reachable
from sagajobs.saga.sweep import recover


@click.command()
@json_option
def sweep(*, as_json: bool) -> None:
    """Hint again at the sagas that have stood still, as beat has it done every second.

    It carries nothing out itself, so it may run beside beat and other sweeps; workers do the work.
    """
    ready_database()
    # A hint without a broker would be counted and lost, with a line in the log only.
    check_reachable(settings(), "broker")
    hinted = recover(engine())
    if as_json:
        print_json({"hinted": hinted})
    else:
        click.echo(f"{hinted} saga{'' if hinted == 1 else 's'} hinted at")
