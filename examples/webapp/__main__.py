"""`python -m examples.webapp --port 8000`: the application on a server of its own, on loopback."""

from __future__ import annotations

import argparse
import signal
import socket
import sys

import waitress

from examples.webapp.app import create_app

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.webapp", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one (default: 8000)")
    port: int = parser.parse_args().port
    try:
        listening = socket.create_server((LOOPBACK, port))
    except OSError as error:
        parser.exit(1, f"Error: cannot listen on {LOOPBACK}:{port}: {error.strerror}\n")
    # Plain HTTP: browsers would not send back a cookie that is for HTTPS only.
    app = create_app(SESSION_COOKIE_SECURE=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # which Waitress takes for the wish to end
    print(f"webapp listening on http://{LOOPBACK}:{listening.getsockname()[1]}/", flush=True)  # noqa: T201 - a program
    waitress.serve(app, sockets=[listening], ident=None)


if __name__ == "__main__":
    main()
