"""`sagas follow`: one appointment is compared with Cal.com now."""

from __future__ import annotations

import click

from sagajobs.booking.lookup import follow_now
from sagajobs.cli.application import ready_database
from sagajobs.cli.help import examples
from sagajobs.cli.operator import print_done, signature, who_option
from sagajobs.cli.output import json_option
from sagajobs.cli.switch import why_option


@click.command(epilog=examples('sagajobs sagas follow 4711 --why "the customer says that he has cancelled it"'))
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@who_option
@why_option
@json_option
def follow(*, number: int, who: str | None, why: str, as_json: bool) -> None:
    """Ask Cal.com about an appointment's booking now, and do here what was done there.

    NUMBER is the appointment's. Webhooks and reconciling do that by themselves; this is for one whose webhook was lost,
    and whose day reconciling has not come to. A saga does it, carried out by the workers.
    """
    ready_database()
    signed = signature(who, why)
    handle = follow_now(number, **signed)
    document = {"saga": handle.id, "appointment": number, **signed}
    print_done(document, f"saga {handle.id} follows appointment {number}: sagajobs watch {handle.id}", as_json=as_json)
