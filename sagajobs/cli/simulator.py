"""`simulator`: a server that behaves like Cal.com, in the foreground."""

from __future__ import annotations

import click

from sagajobs.calcom.simulator import DEFAULT_API_KEY, serve
from sagajobs.cli.help import examples

_FAULTS = """
To have the next booking made and its answer lost:

\b
    curl -d '{"operation": "create", "kind": "timeout", "when": "after", "count": 1}' \\
        http://127.0.0.1:PORT/_simulator/faults

\b
operation    create, get, list, cancel, reschedule, confirm, decline, reassign,
             location, guests, slots, …, or any
kind         timeout, drop, http_500, http_503, http_524, rate_limit, slow,
             malformed
when         before (nothing is done) or after it is done; before, if not said
count        so many calls go wrong; or
probability  each call goes wrong with this chance (0 to 1), repeatably with a seed
seconds      how long slow, timeout and rate_limit last

GET on the same address shows the faults in force and all that a fault may say; DELETE ends them all. Beside it:
/_simulator/ledger shows all bookings with their history, POST /_simulator/reset forgets everything.

To do what a host does behind our back, with a booking's uid (`cancel`, `move` to a `start`, `reassign`, `confirm`,
`decline`; the webhook follows):

\b
    curl -d '{"uid": "UID", "reason": "ill"}' \\
        http://127.0.0.1:PORT/_simulator/host/cancel
"""
"""What stands below the options: how to make Cal.com fail."""


@click.command(epilog=f"{examples('sagajobs simulator --port 8765')}\n{_FAULTS}")
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Port to listen on; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def simulator(port: int, host: str) -> None:
    """Run a Cal.com simulator until Ctrl-C.

    It forgets its bookings when it ends. Whoever reaches it may set faults: keep it on loopback.
    """

    def ready(url: str) -> None:
        click.echo(f"sagajobs simulator listening on {url} (API key: {DEFAULT_API_KEY})")

    try:
        serve(host, port, ready=ready)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
