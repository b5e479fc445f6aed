"""A process that asks every command for its help: what each answers, and whether the application is loaded for it."""

from __future__ import annotations

import json
import sys

import click


def main() -> None:
    from sagajobs.cli import main as program
    from tests.cli.inprocess import sagajobs
    from tests.reference import leaves

    told = {}
    for path, _ in [*leaves(program, ()), ((), None), (("sagas",), None), (("db",), None), (("show",), None)]:
        done = sagajobs(*path, "--help")
        told[" ".join(path)] = [done.status, done.out, done.err]
    click.echo(json.dumps({"told": told, "loaded": "sagajobs.root" in sys.modules}))


if __name__ == "__main__":
    main()
