"""`ready`: whether one process of a deployment can do its work, as a health check asks it every minute."""

from __future__ import annotations

import click
from celery.utils.nodenames import default_nodename, host_format

from sagajobs.cli import application
from sagajobs.cli.help import examples
from sagajobs.cli.output import json_option, print_json
from sagajobs.desk.health import SweepHealth, sweeps
from sagajobs.desk.wording import span
from sagajobs.runtime.reachability import check_reachable
from sagajobs.saga.canvas import SWEEP_QUEUE

PATIENCE = 5.0
"""Seconds in which a worker must answer: it does so between two messages, whatever its steps are at."""

_LOOK_AROUND = 1.0
"""Seconds in which the others answer, whoever they are: the one that was asked for had its time."""


@click.command(epilog=examples("sagajobs ready", "sagajobs ready --worker", "sagajobs ready --beat"))
@click.option(
    "--worker",
    metavar="NODE",
    is_flag=False,
    flag_value="celery@%h",
    help="Ask a worker, too: celery@ this host, or =NODE as in the worker's own -n.",
)
@click.option("--beat", is_flag=True, help="See, too, that sweeps come about.")
@json_option
def ready(*, worker: str | None, beat: bool, as_json: bool) -> None:
    """Say whether database, tables, broker and Redis are as needed: one line, exit status 0 or 1.

    A worker is asked by way of the broker, so its answer says that it is there, connected and not stuck. Beat is seen
    by what comes of it: the sweep that comes most often has run within the last minute, on whichever worker.
    """
    said = check_reachable(application.settings(), "database", "broker", "redis")
    database = application.ready_database()
    if worker is not None:
        _ask(host_format(default_nodename(worker)))
    if beat:
        with database.reading() as connection:
            _come_about(sweeps(connection, application.engine()))
    if as_json:
        print_json({"ready": True, "database": said["database"], "broker": said["broker"], "redis": said["redis"]})
        return
    click.echo(f"ready: {said['database']}, broker {said['broker']}, {said['redis']}")


def _ask(node: str) -> None:
    control = application.celery_app().control
    if control.inspect(destination=[node], timeout=PATIENCE, limit=1).ping():
        return
    others = ", ".join(sorted(control.inspect(timeout=_LOOK_AROUND).ping() or {}))
    raise click.ClickException(
        f"worker {node} has not answered within {PATIENCE:g} s; is it running, by that name, on this broker? "
        + (f"Those that answer: {others}; ask for one with --worker=NODE" if others else "No other one answers")
    )


def _come_about(scheduled: tuple[SweepHealth, ...]) -> None:
    # The others come too rarely to say much: an hourly one that has never run may be as young as its deployment.
    often = min(scheduled, key=lambda sweep: sweep.every)
    if often.late:
        since = "has not run yet" if often.age is None else f"last ran {span(often.age)} ago"
        raise click.ClickException(
            f"the sweep {often.name}, due every {span(often.every)}, {since}; "
            f"does beat run, and a worker that takes {SWEEP_QUEUE}?"
        )
