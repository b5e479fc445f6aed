"""`settings`: what can be set, and how it is set."""

from __future__ import annotations

import click
from sqlalchemy.exc import DBAPIError

from sagajobs.cli import application
from sagajobs.cli.groups import first_line
from sagajobs.cli.help import examples
from sagajobs.cli.output import json_option, print_json, print_table
from sagajobs.desk.wording import moment
from sagajobs.errors import ConfigurationError
from sagajobs.runtime.settings import SettingRow, Settings, variable_of
from sagajobs.saga.switches import Turned


@click.command(epilog=examples("sagajobs settings", "sagajobs settings --json"))
@json_option
def settings(*, as_json: bool) -> None:
    """List every setting with its value, where that comes from, and its meaning; secrets are not shown.

    SAGAJOBS_SAGA_ENABLED is shown as it holds: `sagas enable` and `sagas disable` turn it for everybody, whatever the
    environment says. What is secret may stand in a file of its own: SAGAJOBS_CALCOM_API_KEY_FILE names it in place of
    SAGAJOBS_CALCOM_API_KEY, and so do the URLs', the webhooks', Flower's and Sentry's.
    """
    loaded = Settings.load()
    rows, turned = loaded.describe(), _turned(loaded)
    if turned is not None:
        rows = [_as_turned(row, turned) for row in rows]
    if as_json:
        print_json([{**row._asdict(), **_by_whom(row, turned)} for row in rows])
    else:
        print_table(("setting", "value", "from", "meaning"), [tuple(row) for row in rows])


def _turned(loaded: Settings) -> Turned | None:
    """Return how operators have left the switch; None if nobody has turned it, or if that cannot be seen."""
    if loaded.database_url is None and not (loaded.home / "postgres").exists():
        return None  # the embedded database was never started, and is not to be for this
    try:
        application.ready_database()
        return application.saga_enabled().turned()
    except (ConfigurationError, DBAPIError) as error:
        reason = first_line(str(error))
        click.echo(f"whether operators have turned {variable_of('saga_enabled')} is not known: {reason}", err=True)
        return None


def _as_turned(row: SettingRow, turned: Turned) -> SettingRow:
    if row.variable != variable_of("saga_enabled"):
        return row
    by = f"switch, by {turned.set_by} since {moment(turned.set_at)}: {turned.why}"
    return row._replace(value=str(turned.value), source=by)


def _by_whom(row: SettingRow, turned: Turned | None) -> dict[str, object]:
    if turned is None or row.variable != variable_of("saga_enabled"):
        return {}
    return {"source": "switch", "who": turned.set_by, "why": turned.why, "at": turned.set_at}
