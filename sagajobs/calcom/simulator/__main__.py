"""`python -m sagajobs.calcom.simulator`: a simulator of its own, until it is told to stop."""

from __future__ import annotations

import argparse

from sagajobs.calcom.simulator.server import DEFAULT_API_KEY, LOOPBACK, serve


def main() -> None:
    """Read the command line and serve; one line on standard output says where."""
    parser = argparse.ArgumentParser(
        prog="python -m sagajobs.calcom.simulator",
        description="A server that behaves like Cal.com's API v2, with faults on request.",
    )
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--api-key",
        action="append",
        metavar="KEY",
        help=f"a token to accept; may be given several times (default: {DEFAULT_API_KEY})",
    )
    options = parser.parse_args()
    serve(options.host, options.port, api_keys=options.api_key or (DEFAULT_API_KEY,), ready=_announce)


def _announce(url: str) -> None:
    print(f"sagajobs simulator listening on {url}", flush=True)  # noqa: T201 - whoever started it waits for this


if __name__ == "__main__":
    main()
