"""Tables as after years of bookings, and what the database says about how it answers the sweeps there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, TextClause, text

from sagajobs.booking import reconcile
from sagajobs.saga import inflight
from sagajobs.saga import statements as engine
from sagajobs.saga.sweeps import statements as sweeps
from sagajobs.saga.sweeps.review import LONGEST_SILENCE

FINISHED = (
    # Ended in the last 80 days: younger than what is purged.
    """
    CREATE TEMPORARY TABLE filled AS SELECT gen_random_uuid() AS id, n, saga_now() - (n % 80) * interval '1 day' AS at
    FROM generate_series(1, :n) n
    """,
    """
    INSERT INTO sagas (id, name, version, definition, state, stage, open_steps, input, created_at, ended_at)
    SELECT id, 'appointment_creation', 1, 'd', CASE WHEN n % 20 = 0 THEN 'compensated' ELSE 'completed' END, 4, 0,
        jsonb_build_object('start', at, 'event_type_id', n % 5), at, at
    FROM filled
    """,
    """
    INSERT INTO saga_steps (saga_id, name, position, stage, external, state, attempts, output, finished_at)
    SELECT id, 'step_' || s, s, s, s = 2, 'done', 1, '{"appointment_id": 1}', at FROM filled, generate_series(0, 3) s
    """,
    """
    INSERT INTO saga_events (saga_id, event, at)
    SELECT id, 'step_completed', at FROM filled, generate_series(0, 3)
    """,
    # Every fifth was asked about at some time.
    """
    INSERT INTO review_cases (saga_id, step, reason, evidence, opened_at, look_at, alert_at, closed_at, resolution)
    SELECT id, 'step_0', 'r', '{}', at, at, at, at, 'settled' FROM filled WHERE n % 5 = 0
    """,
    # A thousand days of appointments around today, none of staff: the constraint on slots is not what is measured.
    """
    INSERT INTO appointments (customer_id, event_type_id, starts_at, ends_at, status, calcom_sync_status,
        calcom_v2_booking_id, saga_id, updated_at)
    SELECT 1, 1, start, start + interval '30 min',
        CASE WHEN n % 4 = 0 THEN 'cancelled' ELSE 'scheduled' END,
        CASE WHEN n % 4 = 0 THEN 'cancelled' ELSE 'synced' END,
        'uid' || n, id, at - interval '1 h'
    FROM (SELECT *, saga_now() + (n % 1000 - 900) * interval '1 day' AS start FROM filled) f
    """,
    """
    INSERT INTO audit_log (at, actor, action, entity, entity_id, saga_id, detail)
    SELECT at, 'sagajobs', 'appointment.deleted', 'appointment', n, id, '{}' FROM filled
    """,
    "DROP TABLE filled",
)
"""What does not concern the sweeps any more: `:n` sagas at their end, each with four steps and events, an
appointment and a row of the audit log."""

FIRST_DUE = "00000000-0000-4000-8000-000000000001"

DUE = (
    """
    INSERT INTO audit_log (actor, action, entity, entity_id, detail)
    SELECT 'sagajobs', 'reconcile.orphan', 'calcom_booking', n, '{}' FROM generate_series(1, :n) n
    """,
    "INSERT INTO customers (name, email, time_zone) VALUES ('n', 'n@example.org', 'UTC')",
    f"""
    INSERT INTO sagas (id, name, version, definition, state, input, next_at)
    SELECT CASE n WHEN 1 THEN '{FIRST_DUE}' ELSE gen_random_uuid() END, 'appointment_creation', 1, 'd', 'running',
        '{{}}', saga_now() - n * interval '1 s'
    FROM generate_series(1, :n) n
    """,
    """
    INSERT INTO sagas (id, name, version, definition, state, input)
    SELECT gen_random_uuid(), 'appointment_creation', 1, 'd', 'manual_review_required', '{}'
    FROM generate_series(1, :n) n
    """,
    """
    INSERT INTO saga_steps (saga_id, name, position, stage, external, state)
    SELECT id, 'step_' || s, s, s, s = 2, CASE WHEN s = 0 THEN 'unknown' ELSE 'waiting' END
    FROM sagas, generate_series(0, 3) s
    """,
    """
    INSERT INTO review_cases (saga_id, step, reason, evidence, opened_at, look_at, alert_at, urgent_at)
    SELECT id, 'step_0', 'r', '{}', saga_now() - interval '1 h', saga_now() - random() * interval '1 h',
        saga_now() - random() * interval '1 h', saga_now() + random() * interval '9 days'
    FROM sagas WHERE state = 'manual_review_required'
    """,
    """
    INSERT INTO sagas (id, name, version, definition, state, input, created_at, ended_at)
    SELECT gen_random_uuid(), 'appointment_creation', 1, 'd', 'completed', '{}', saga_now() - interval '100 days',
        saga_now() - interval '99 days' - n * interval '1 s'
    FROM generate_series(1, :n) n
    """,
    """
    INSERT INTO saga_steps (saga_id, name, position, stage, external, state)
    SELECT id, 'step_' || s, s, s, s = 2, 'done' FROM sagas, generate_series(0, 3) s WHERE state = 'completed'
    """,
    """
    INSERT INTO saga_events (saga_id, event)
    SELECT id, 'step_completed' FROM sagas, generate_series(0, 3) WHERE state = 'completed'
    """,
    """
    INSERT INTO appointments (customer_id, event_type_id, starts_at, ends_at, status, calcom_sync_status,
        calcom_v2_booking_id, updated_at)
    SELECT 1, 1, start, start + interval '30 min', 'scheduled', 'synced', 'due' || n, saga_now() - interval '1 h'
    FROM (SELECT n, saga_now() + interval '200 days' + (n % 1440) * interval '1 min' AS start
          FROM generate_series(1, :n) n) f
    """,
)
"""What does: `:n` sagas that stand still, as many cases to look at, sagas to purge, and appointments of one day."""


OPEN_CASES = frozenset({"ix_review_cases_look_at", "ix_review_cases_alert_at", "uq_review_cases_open"})

GROWING = {"sagas", "saga_steps", "saga_events", "review_cases", "appointments", "audit_log"}
"""Tables that grow with what is over."""


@dataclass(frozen=True)
class Query:
    """A query of a sweep.

    Attributes:
        name: what it is for.
        statement, values: what is asked.
        index: the index that must serve it; for open cases, which are few, any that holds them and no others.
    """

    name: str
    statement: TextClause
    values: dict[str, Any]
    index: str | frozenset[str]

    @property
    def indexes(self) -> frozenset[str]:
        """The indexes of which one must serve it."""
        return self.index if isinstance(self.index, frozenset) else frozenset({self.index})


def queries(due: int) -> list[Query]:
    """Return what the sweeps ask for, in batches of `due`."""
    day = datetime.now(UTC) + timedelta(days=200) - timedelta(minutes=5)
    alerts = {"response": engine.RESPONSE_TIME, "near": engine.URGENT_BEFORE, "longest": LONGEST_SILENCE}
    return [
        Query("check: all in flight", inflight.IN_FLIGHT, {}, "ix_sagas_state"),
        Query(
            "recover: due sagas",
            engine.DUE,
            {"batch": due, "known": ["appointment_creation", ""], "nobody": 600.0},
            "ix_sagas_due",
        ),
        Query(
            "recover: one saga taken up",
            engine.TAKE_DUE,
            {"id": FIRST_DUE, "stall_after": 15.0, "longest": 600.0},
            "pk_saga_steps",
        ),
        Query(
            "review: cases to look at",
            sweeps.CASES_DUE,
            {"batch": due, "known": ["appointment_creation", ""]},
            OPEN_CASES,
        ),
        Query("review: cases overdue", sweeps.OVERDUE, {"batch": due}, OPEN_CASES),
        Query("review: one alert", sweeps.TAKE_OVERDUE, {"id": 1, **alerts}, "pk_review_cases"),
        Query("purge: one batch", sweeps.PURGE, {"days": 90, "batch": due}, "ix_sagas_ended"),
        Query(
            "reconcile: a day's appointments",
            reconcile.APPOINTMENTS,
            {"first": day, "last": day + reconcile.WINDOW, "quiet": 60.0},
            "ix_appointments_live",
        ),
        Query(
            "reconcile: whose bookings",
            reconcile.NAMED,
            {"uids": [f"due{n}" for n in range(1, due + 1)]},
            "uq_appointments_calcom_v2_booking_id",
        ),
    ]


def fill(connection: Connection, *statements: str, n: int) -> None:
    """Fill the tables and have the planner know of it."""
    for statement in statements:
        connection.execute(text(statement), {"n": n} if ":n" in statement else {})
    connection.execute(text("ANALYZE"))


@dataclass(frozen=True)
class Plan:
    """How the database answers a query.

    Attributes:
        scans: each scan of a table, as (kind, table, index).
        milliseconds, buffers: what it took, triggers and cascades included, if it was carried out.
    """

    scans: frozenset[tuple[str, str, str | None]]
    milliseconds: float = 0.0
    buffers: int = 0

    def sequential(self) -> set[str]:
        """Return the tables that are read from one end to the other."""
        return {table for kind, table, _ in self.scans if kind == "Seq Scan"}

    def indexes(self) -> set[str]:
        """Return the indexes that are used."""
        return {index for _, _, index in self.scans if index is not None}


def explain(connection: Connection, query: Query, *, analyze: bool = False) -> Plan:
    """Ask for a query's plan; with `analyze` it is carried out, and taken back."""
    options = "ANALYZE, BUFFERS, FORMAT JSON" if analyze else "FORMAT JSON"
    with connection.begin() as transaction:
        asked = text(f"EXPLAIN ({options}) {query.statement.text}")
        (answer,) = connection.execute(asked, query.values).scalar_one()
        transaction.rollback()
    return _plan(answer)


def plan_of(connection: Connection, statement: str, parameters: Any) -> Plan:
    """Carry out a query that changes nothing, as the driver gets it, and return its plan."""
    (answer,) = connection.exec_driver_sql(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
    ).scalar_one()
    return _plan(answer)


def _plan(answer: dict[str, Any]) -> Plan:
    nodes = list(_nodes(answer["Plan"]))
    # A scan through a bitmap names its table in one node and its index in another.
    scans = frozenset(
        (node["Node Type"], node.get("Relation Name", ""), node.get("Index Name"))
        for node in nodes
        if "Scan" in node["Node Type"]
    )
    plan = answer["Plan"]
    return Plan(
        scans,
        answer.get("Execution Time", 0.0),
        plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0),
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
