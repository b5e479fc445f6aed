"""`webhooks`: a server that receives Cal.com's webhooks, in the foreground."""

from __future__ import annotations

import click

from sagajobs.cli.application import begin_program, ready_database
from sagajobs.cli.help import examples
from sagajobs.web.server import serve


@click.command(epilog=examples("sagajobs webhooks --port 8080"))
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Port to listen on; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def webhooks(port: int, host: str) -> None:
    """Receive Cal.com's webhooks until Ctrl-C.

    For those who cannot mount `sagajobs.web.webhook_wsgi` or `webhook_asgi` in their own web application. It speaks
    plain HTTP: put it behind whatever speaks HTTPS for you. What it takes, workers carry out.
    """
    ready_database()
    begin_program()
    try:
        serve(host, port, ready=lambda url: click.echo(f"sagajobs webhooks listening on {url}"))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
