"""`findings`: what reconciling has left to a person, and his word that it is settled."""

from __future__ import annotations

from typing import Any

import click

from sagajobs.booking.findings import Finding, settle_finding, word
from sagajobs.booking.findings import findings as open_findings
from sagajobs.cli.application import ready_database
from sagajobs.cli.help import examples
from sagajobs.cli.operator import print_done, signature, who_option
from sagajobs.cli.options import limit_option
from sagajobs.cli.output import echo, json_option, print_json, print_list
from sagajobs.cli.switch import why_option
from sagajobs.desk.wording import moment


@click.group(epilog=examples("sagajobs findings list", 'sagajobs findings settle 17 --why "cancelled at Cal.com"'))
def findings() -> None:
    """Where Cal.com and the database differ and no saga may decide: list it, and say that it is settled."""


@findings.command("list", epilog=examples("sagajobs findings list", "sagajobs findings list --json | jq -r '.[].uid'"))
@limit_option("findings")
@json_option
def list_findings(*, limit: int, as_json: bool) -> None:
    """List what reconciling has left to a person, what begins next first.

    What is so no more goes from the list by itself, two days after it was last found.
    """
    with ready_database().reading() as connection:
        found = open_findings(connection, limit)
    if as_json:
        print_json([_document(one) for one in found])
        return
    print_list(
        ("number", "about", "begins", "what it is", "uid", "saga"),
        [
            (
                str(one.number),
                one.about,
                moment(one.starts_at),
                one.kind.one,
                one.uid or "-",
                one.saga_id or "-",
            )
            for one in found
        ],
        nothing="reconciling has left nothing to a person",
    )
    for kind in dict.fromkeys(one.kind for one in found):
        echo(f"{kind.one}: {kind.remedy}")


@findings.command(epilog=examples('sagajobs findings settle 17 --why "nobody expected it: cancelled at Cal.com"'))
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@who_option
@why_option
@json_option
def settle(*, number: int, who: str | None, why: str, as_json: bool) -> None:
    """Put on record that a finding has been taken care of; found again tomorrow, it is open again."""
    database, signed = ready_database(), signature(who, why)
    found = settle_finding(database, number, **signed)
    print_done({**_document(found), **signed}, f"finding {number} ({found.about}) is settled", as_json=as_json)


def _document(one: Finding) -> dict[str, Any]:
    return {
        "number": one.number,
        "at": one.at,
        "what": word(one.what),
        "entity": one.entity,
        "entity_id": one.entity_id,
        "saga": one.saga_id,
        "starts_at": one.starts_at,
        "uid": one.uid,
    }
