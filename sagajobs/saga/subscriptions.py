"""What a person does about subscriptions to events: made, ended, and on record with who and why.

The broker knows no transaction of the database's. The row is written first and committed last: a deed that fails leaves
none, and one that cannot be put on record is not done.
"""

from __future__ import annotations

import logging
from functools import partial

from sagajobs.saga.audit import put_on_record
from sagajobs.saga.bus import Bus
from sagajobs.saga.database import Database
from sagajobs.saga.operator import signed

log = logging.getLogger("saga")

ENTITY = "subscription"


def make_subscription(database: Database, bus: Bus, name: str, pattern: str, *, who: str, why: str) -> None:
    """Make a subscription, as `Bus.subscribe` does.

    Args:
        database: where it goes on record.
        bus: whose events.
        name: of the subscription.
        pattern: which events.
        who: does it.
        why: for those who wonder later.

    Raises:
        ConfigurationError: no such name or pattern.
        InvalidInput: it is not said who or why, or cannot be stored.
    """
    by = signed(who, why)
    with database.transaction() as connection:
        put_on_record(connection, by, "subscription.made", entity=ENTITY, subscription=name, pattern=pattern)
        bus.subscribe(name, pattern)
    log.warning("subscription %s made by %s", name, by.who)


def end_subscription(database: Database, bus: Bus, name: str, *, who: str, why: str) -> int:
    """End a subscription, as `Bus.unsubscribe` does; arguments, and what is raised, as for `make_subscription`."""
    by = signed(who, why)
    with database.transaction() as connection:
        note = partial(put_on_record, connection, by, "subscription.ended", entity=ENTITY, subscription=name)
        left = bus.unsubscribe(name, before=lambda dropped: note(dropped=dropped))
    log.warning("subscription %s ended by %s", name, by.who)
    return left
