"""The engine's tables (docs/design.md, Tables).

The statements in `statements` are written against them by hand; this description serves the migrations, the tests that
compare both, and queries of surfaces.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from sagajobs.saga.states import ENDED, UNFINISHED, SagaState, StepState

NAMING = {  # constraints get names that a migration can drop them by
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)


def among(column: str, values: Iterable[str]) -> str:
    """Return the SQL condition that a column holds one of some words."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in sorted(values))})"


def timestamp(name: str, *, nullable: bool = True) -> Column[object]:
    """Return a column for a time; one that must not be null is the database's own time of the insert."""
    default = None if nullable else text("saga_now()")
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


sagas = Table(
    "sagas",
    metadata,
    Column("id", UUID(as_uuid=False), primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("definition", Text, nullable=False),
    Column("kind", Text, nullable=False, server_default="declared"),
    Column("state", Text, nullable=False),
    Column("paused_from", Text),
    Column("stage", SmallInteger, nullable=False, server_default="0"),
    Column("open_steps", SmallInteger, nullable=False, server_default="1"),
    Column("input", JSONB, nullable=False),
    Column("idempotency_key", Text),
    timestamp("useful_until"),
    Column("trace", Text),
    Column("error", JSONB),
    timestamp("next_at"),
    Column("hints", Integer, nullable=False, server_default="0"),
    timestamp("created_at", nullable=False),
    timestamp("updated_at", nullable=False),
    timestamp("ended_at"),
    UniqueConstraint("name", "idempotency_key"),
    CheckConstraint(among("state", SagaState), name="state"),
    CheckConstraint("kind IN ('declared', 'orchestrated')", name="kind"),
    CheckConstraint("(state = 'paused') = (paused_from IS NOT NULL)", name="paused_from"),
    CheckConstraint(
        f"CASE WHEN {among('state', ENDED)} THEN ended_at IS NOT NULL "
        "WHEN state = 'manual_review_required' THEN true ELSE ended_at IS NULL END",
        name="ended_at",
    ),
    CheckConstraint(f"({among('state', UNFINISHED)}) = (next_at IS NOT NULL)", name="next_at"),
)
Index("ix_sagas_due", sagas.c.next_at, postgresql_where=sagas.c.next_at.is_not(None))
Index("ix_sagas_created_at", sagas.c.created_at, sagas.c.id)
Index("ix_sagas_name", sagas.c.name, sagas.c.created_at, sagas.c.id)
Index("ix_sagas_ended", sagas.c.ended_at, postgresql_where=sagas.c.ended_at.is_not(None))
Index("ix_sagas_state", sagas.c.state, sagas.c.created_at, postgresql_where=text("state <> 'completed'"))

saga_steps = Table(
    "saga_steps",
    metadata,
    Column("saga_id", UUID(as_uuid=False), ForeignKey("sagas.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("position", SmallInteger, nullable=False),
    Column("stage", SmallInteger, nullable=False),
    Column("external", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column("undo_attempts", SmallInteger, nullable=False, server_default="0"),
    Column("probes", SmallInteger, nullable=False, server_default="0"),
    Column("absences", SmallInteger, nullable=False, server_default="0"),
    timestamp("absent_since"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("owner", Text),
    timestamp("lease_until"),
    timestamp("call_until"),
    timestamp("due_at"),
    Column("output", JSONB),
    Column("error", JSONB),
    Column("receipt", JSONB),
    timestamp("started_at"),
    timestamp("finished_at"),
    CheckConstraint(among("state", StepState), name="state"),
    CheckConstraint("attempts >= 0 AND undo_attempts >= 0 AND probes >= 0 AND absences >= 0", name="counts"),
)

saga_events = Table(
    "saga_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("saga_id", UUID(as_uuid=False), ForeignKey("sagas.id", ondelete="CASCADE"), nullable=False),
    timestamp("at", nullable=False),
    Column("event", Text, nullable=False),
    Column("step", Text),
    Column("attempt", SmallInteger),
    Column("fence", Integer),
    Column("detail", JSONB),
)
Index("ix_saga_events_saga_id", saga_events.c.saga_id, saga_events.c.id)

review_cases = Table(
    "review_cases",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("saga_id", UUID(as_uuid=False), ForeignKey("sagas.id", ondelete="CASCADE"), nullable=False),
    Column("step", Text),
    Column("reason", Text, nullable=False),
    Column("evidence", JSONB, nullable=False),
    Column("was", Text, nullable=False, server_default="running"),
    timestamp("urgent_at"),
    timestamp("opened_at", nullable=False),
    Column("looks", Integer, nullable=False, server_default="0"),
    timestamp("look_at", nullable=False),
    Column("alerts", Integer, nullable=False, server_default="0"),
    timestamp("alert_at", nullable=False),
    timestamp("closed_at"),
    Column("closed_by", Text),
    Column("resolution", Text),
    Column("why", Text),
    CheckConstraint("(closed_at IS NULL) = (resolution IS NULL)", name="closed"),
    CheckConstraint(among("was", UNFINISHED), name="was"),
)
Index(
    "uq_review_cases_open",
    review_cases.c.saga_id,
    unique=True,
    postgresql_where=review_cases.c.closed_at.is_(None),
)
Index("ix_review_cases_saga_id", review_cases.c.saga_id)
for _due in (review_cases.c.look_at, review_cases.c.alert_at):
    Index(f"ix_review_cases_{_due.name}", _due, postgresql_where=review_cases.c.closed_at.is_(None))

saga_locks = Table(
    "saga_locks",
    metadata,
    Column("resource", Text, primary_key=True),
    Column("saga_id", UUID(as_uuid=False), ForeignKey("sagas.id", ondelete="CASCADE"), primary_key=True),
    Column("place", BigInteger, Identity(always=True), nullable=False),
    Column("held", Boolean, nullable=False),
    timestamp("waits_until"),
    timestamp("since", nullable=False),
)
Index("uq_saga_locks_held", saga_locks.c.resource, unique=True, postgresql_where=saga_locks.c.held)
Index("ix_saga_locks_saga_id", saga_locks.c.saga_id)

saga_owners = Table(
    "saga_owners",
    metadata,
    Column("id", BigInteger, Identity(always=False, maxvalue=2**31 - 1, cycle=True), primary_key=True),
    Column("name", Text, nullable=False),
    timestamp("since", nullable=False),
    timestamp("missed_at"),
    Column(
        "server_started", DateTime(timezone=True), nullable=False, server_default=text("pg_postmaster_start_time()")
    ),
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("name", Text, primary_key=True),
    Column("cursor", JSONB),
    timestamp("ran_at"),
    Column("seconds", Float),
    Column("found", Integer, nullable=False, server_default="0"),
)

switches = Table(
    "switches",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Boolean, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("why", Text, nullable=False),
    timestamp("set_at", nullable=False),
)

saga_totals = Table(
    "saga_totals",
    metadata,
    Column("saga", Text, primary_key=True),
    Column("measure", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("upto", Float, primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("total", Float, nullable=False),
)

saga_uncounted = Table(
    "saga_uncounted",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("saga_id", UUID(as_uuid=False), nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("saga_id", UUID(as_uuid=False), nullable=False),
    Column("saga", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("step", Text),
    Column("attempt", SmallInteger),
    timestamp("at", nullable=False),
    Column("trace", Text),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    timestamp("at", nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("entity", Text, nullable=False),
    Column("entity_id", BigInteger),
    Column("saga_id", UUID(as_uuid=False), index=True),
    Column("detail", JSONB, nullable=False),
)
Index("ix_audit_log_entity", audit_log.c.entity, audit_log.c.entity_id)
