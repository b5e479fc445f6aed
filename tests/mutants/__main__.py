"""`python -m tests.mutants [NAME …]`: break the engine on purpose; exit code 1 if a test does not notice."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.mutants import table
from tests.mutants.mutants import MUTANTS
from tests.mutants.runner import End, Rotten, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to try, all by default")
    parser.add_argument("--jobs", type=int, default=2, help="mutants side by side (default 2)")
    parser.add_argument("--table", action="store_true", help="print the table of docs/reliability.md and do nothing")
    options = parser.parse_args()
    if options.table:
        click.echo(table.page())
        return 0
    if unknown := set(options.names) - {mutant.name for mutant in MUTANTS}:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sagajobs-mutants-") as folder:
        Path(folder).chmod(0o755)  # as root, the database server of the tests runs as another user
        try:
            fates = run(chosen, jobs=options.jobs, folder=Path(folder), tell=lambda fate: click.echo(table.line(fate)))
        except Rotten as error:
            click.echo(error, err=True)
            return 2
    for fate in fates:
        if fate.end is not End.CAUGHT:
            click.echo(f"\n{fate.mutant.name} {fate.end}: {fate.mutant.why}\n{fate.said}", err=True)
    click.echo(table.summary(fates, time.monotonic() - began))
    return int(any(fate.end is not End.CAUGHT for fate in fates))


if __name__ == "__main__":
    sys.exit(main())
