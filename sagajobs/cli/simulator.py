"""`simulator`: a server that behaves like Cal.com, in the foreground."""

from __future__ import annotations

import click

from sagajobs.calcom.simulator import DEFAULT_API_KEY, serve


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Port to listen on; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def simulator(port: int, host: str) -> None:
    """Run a Cal.com simulator until Ctrl-C.

    It forgets its bookings when it ends. Whoever reaches it may set faults (see /_simulator/faults): keep it on
    loopback.
    """

    def ready(url: str) -> None:
        click.echo(f"sagajobs simulator listening on {url} (API key: {DEFAULT_API_KEY})")

    try:
        serve(host, port, ready=ready)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
