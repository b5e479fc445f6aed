"""A subscriber: keeps, in a table of its own, how many sagas of each kind have come to which end.

    sagajobs events on --why "the reports need them"
    python examples/subscriber.py

It says nothing meanwhile; `SELECT * FROM report_ends` shows what it has counted.

Events come at least once: one that comes again has a number that its saga has passed, and is passed over. What an event
says and the number are written in one transaction, so a crash between any two lines counts nothing twice and forgets
nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from sagajobs.root import database, events

TABLES = """
    CREATE TABLE IF NOT EXISTS report_seen (saga_id uuid PRIMARY KEY, sequence text NOT NULL);
    CREATE TABLE IF NOT EXISTS report_ends (saga text, event text, sagas bigint NOT NULL, PRIMARY KEY (saga, event))
"""

SEEN = text("""
    INSERT INTO report_seen AS s (saga_id, sequence) VALUES (:saga_id, :sequence)
    ON CONFLICT (saga_id) DO UPDATE SET sequence = excluded.sequence WHERE s.sequence < excluded.sequence
    RETURNING saga_id
""")

COUNT = text("""
    INSERT INTO report_ends AS r (saga, event, sagas) VALUES (:saga, :event, 1)
    ON CONFLICT (saga, event) DO UPDATE SET sagas = r.sagas + 1
""")

ENDS = ("saga_completed", "saga_compensated", "review_required")


def handle(event: dict[str, Any]) -> None:
    """Count one event, a CloudEvent."""
    told = event["data"]
    with database.transaction() as connection:
        new = connection.execute(SEEN, {"saga_id": event["subject"], "sequence": event["sequence"]}).first()
        if new is not None and told["event"] in ENDS:
            connection.execute(COUNT, {"saga": told["saga"], "event": told["event"]})


def main() -> None:
    """Count until Ctrl-C."""
    with database.transaction() as connection:
        connection.execute(text(TABLES))
    events.follow("reports", handle).run()


if __name__ == "__main__":
    main()
