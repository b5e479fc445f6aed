"""`invariants`: what must be true of all appointments."""

from __future__ import annotations

import sys

import click

from sagajobs.booking import invariants as booking
from sagajobs.cli.application import ready_database
from sagajobs.cli.exits import Exit
from sagajobs.cli.help import examples
from sagajobs.cli.output import json_option, print_json, print_table


@click.command(epilog=examples("sagajobs invariants", "sagajobs invariants --json"))
@json_option
def invariants(*, as_json: bool) -> None:
    """Count the appointments that break an invariant; exit status 2 if there are any.

    Each is to be 0 while no saga is under way.
    """
    with ready_database().reading() as connection:
        found = booking.check(connection)
    if as_json:
        print_json(
            [
                {
                    "number": violation.invariant.number,
                    "name": violation.invariant.name,
                    "rows": violation.rows,
                    "examples": list(violation.examples),
                }
                for violation in found
            ]
        )
    else:
        print_table(
            ("invariant", "holds", "rows", "appointments"),
            [
                (
                    f"{violation.invariant.number} {violation.invariant.name}",
                    "no" if violation.rows else "yes",
                    str(violation.rows),
                    ", ".join(map(str, violation.examples)) or "-",
                )
                for violation in found
            ],
            styles=["bold red" if violation.rows else "" for violation in found],
        )
    if any(violation.rows for violation in found):
        sys.exit(Exit.VIOLATED)
