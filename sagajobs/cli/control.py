"""`sagas pause`, `resume` and `cancel`: what an operator does to a saga that is under way."""

from __future__ import annotations

from typing import Any

import click

from sagajobs.cli import completing
from sagajobs.cli.application import engine
from sagajobs.cli.help import examples
from sagajobs.cli.operator import acting, print_done, print_prospect, saga_of, signature
from sagajobs.saga import SagaHandle
from sagajobs.saga.explain import explain_cancel, explain_pause, explain_resume

_ID = click.argument("given", metavar="ID", shell_complete=completing.saga_ids)


@click.command(epilog=examples('sagajobs sagas pause 1f6c2a9e --why "the host is ill"'))
@_ID
@acting
def pause(*, given: str, **options: Any) -> None:
    """Let nothing more of a saga begin until it is resumed.

    What is in flight is recorded when it comes back. ID is the saga's id, or its first 8 characters or more.
    """
    _act(given, "pause", **options)


@click.command(
    epilog=examples(
        "sagajobs sagas resume 1f6c2a9e --dry-run", 'sagajobs sagas resume 1f6c2a9e --why "the host is back"'
    )
)
@_ID
@acting
def resume(*, given: str, **options: Any) -> None:
    """Let a paused saga go on.

    ID is the saga's id, or its first 8 characters or more.
    """
    _act(given, "resume", **options)


@click.command(
    epilog=examples(
        "sagajobs sagas cancel 1f6c2a9e --dry-run", 'sagajobs sagas cancel 1f6c2a9e --why "the customer rang"'
    )
)
@_ID
@acting
def cancel(*, given: str, **options: Any) -> None:
    """Undo a saga that is under way as if it had failed.

    ID is the saga's id, or its first 8 characters or more.
    """
    _act(given, "cancel", **options)


def _act(
    given: str, act: str, *, who: str | None, why: str | None, dry_run: bool, private: bool, as_json: bool
) -> None:
    signed = {} if dry_run else signature(who, why)
    saga_id = saga_of(given)
    if dry_run:
        prospects = {
            "pause": lambda: explain_pause(engine(), saga_id),
            "resume": lambda: explain_resume(engine(), saga_id, private=private),
            "cancel": lambda: explain_cancel(engine(), saga_id, private=private),
        }
        print_prospect(prospects[act](), as_json=as_json)
        return
    state = getattr(SagaHandle(saga_id, engine=engine()), act)(**signed)
    document = {"saga": saga_id, "act": act, "state": state, "who": who}
    print_done(document, f"{act} by {who}: saga {saga_id} is {state}", as_json=as_json)
