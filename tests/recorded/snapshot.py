"""What is on record at one moment, taken out of the tables and of Cal.com's simulator, and put back into empty ones."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from sqlalchemy import Connection, text

from sagajobs.saga import Engine
from sagajobs.testing.simulator import Simulator

State: TypeAlias = dict[str, list[dict[str, Any]]]

TABLES = (
    "customers",
    "staff",
    "composite_bookings",
    "appointments",
    "sagas",
    "saga_steps",
    "saga_events",
    "saga_locks",
    "review_cases",
    "audit_log",
)
"""In an order in which no row refers to one that is not there yet. `saga_owners` is not among them: they are dead."""

DEAD = "recorded"
"""Who has claimed a step: nobody who could still be alive where it is restored."""

BOOKINGS = "bookings"
"""What stands at Cal.com, among the tables."""

_NUMBERS = text("""
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = current_schema() AND is_identity = 'YES' AND table_name = ANY(:tables)
""")


def take(engine: Engine, simulator: Simulator) -> State:
    """Return what is on record now."""
    with engine.database.reading() as connection:
        rows = {
            table: list(connection.exec_driver_sql(f"SELECT to_jsonb(t) FROM {table} t ORDER BY t").scalars())
            for table in TABLES
        }
    for step in rows["saga_steps"]:
        step["owner"] = step["owner"] and DEAD
    return {**rows, BOOKINGS: simulator.kept()}


def put_back(engine: Engine, simulator: Simulator, state: State) -> None:
    """Have this on record, and nothing else."""
    simulator.put_back(state[BOOKINGS])
    with engine.database.transaction() as connection:
        connection.exec_driver_sql("; ".join(f"DELETE FROM {table}" for table in reversed(TABLES)))
        for table in TABLES:
            if state[table]:
                _insert(connection, table, state[table])
        for table, column in connection.execute(_NUMBERS, {"tables": list(TABLES)}).all():
            last = max((row[column] for row in state[table]), default=None)
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence(:table, :column), coalesce(:last, 1), :last IS NOT NULL)"),
                {"table": table, "column": column, "last": last},
            )


def _insert(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    # By the columns that were recorded: one that came later has its default.
    columns = ", ".join(rows[0])
    connection.execute(
        text(
            f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE "
            f"SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, CAST(:rows AS jsonb))"
        ),
        {"rows": json.dumps(rows)},
    )


def changes(before: State | None, now: State) -> State:
    """Return the tables that are not as they were, for a file in which nothing stands twice."""
    return {name: rows for name, rows in now.items() if before is None or before[name] != rows}
