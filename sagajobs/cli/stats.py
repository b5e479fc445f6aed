"""`sagas stats`: how it goes."""

from __future__ import annotations

from dataclasses import asdict

import click

from sagajobs.cli.application import ready_database
from sagajobs.cli.help import examples
from sagajobs.cli.output import echo, json_option, print_json, print_list
from sagajobs.desk.health import Backlog
from sagajobs.desk.standing import begun
from sagajobs.desk.statistics import Statistics, statistics
from sagajobs.desk.wording import span


@click.command(
    epilog=examples(
        "sagajobs sagas stats",
        "sagajobs sagas stats --json | jq '.causes[] | select(.asked > 0)'",
    )
)
@json_option
def stats(*, as_json: bool) -> None:
    """Count sagas, what they took, and what stands in their way.

    AT HAND are those that have not ended. ENDED counts the sagas that ended within the last hour and day; P50 and P95
    are what half of those of the day, and 95 % of them, took from start to end. CAUSES counts by class of error and
    step: TRYING are sagas that try again or are being undone for it, ASKED cases that wait for a person (`sagas retry
    --cause CLASS` takes them all up), UNDONE sagas that were undone for it within the last day.
    """
    with ready_database().reading() as connection:
        found = statistics(connection)
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)


def _show(found: Statistics) -> None:
    print_list(
        ("kind", "at hand", "sagas"),
        [(one.name, str(one.state), str(one.sagas)) for one in found.at_hand],
        "no saga is at hand",
    )
    echo()
    print_list(
        ("kind", "ended", "last hour", "last day", "p50", "p95"),
        [
            (one.name, one.outcome, str(one.within_hour), str(one.within_day), span(one.p50), span(one.p95))
            for one in found.ended
        ],
        "no saga ended within a day",
    )
    echo()
    print_list(
        ("kind", "step", "cause", "trying", "asked", "undone"),
        [
            (one.name, one.step or "-", one.cause or "-", str(one.trying), str(one.asked), str(one.undone))
            for one in found.causes
        ],
        "no saga has failed at anything",
        styles=["bold red" if one.asked else "" for one in found.causes],
    )
    echo()
    for line in _backlog(found.backlog):
        echo(line)
    echo("what is wrong, if anything is, and what to do: sagajobs health")


def _backlog(found: Backlog) -> list[str]:
    oldest = found.oldest
    since = "" if oldest is None else f"; the oldest, {oldest.id} ({oldest.name}), for {span(oldest.age)}"
    return [
        f"unfinished: {found.unfinished}, {found.due} due, {found.overdue} overdue{since}",
        f"waiting for a person: {found.cases}{begun(found)}",
    ]
