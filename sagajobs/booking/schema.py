"""The booking domain's tables (SPEC 10; column names that the seed's queries use are kept).

What the database itself refuses, no bug above it can write: statuses outside the lists, the pairs that invariants 1
and 2 forbid, and two appointments of one staff member at one time.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID, ExcludeConstraint

from sagajobs.saga.schema import NAMING, among, timestamp

STATUSES = ("pending", "scheduled", "confirmed", "completed", "cancelled", "rescheduled", "failed")
"""What an appointment can be (SPEC 4)."""

SYNC_STATUSES = ("pending", "synced", "error", "cancelled", "manual_review_required")
"""How it stands with Cal.com (SPEC 4)."""

SLOT_FREE = ("cancelled", "failed")
"""Statuses in which an appointment does not hold its slot. A rescheduled one stands, at its new time."""

_SLOTS = (
    "(CASE WHEN moving_starts_at IS NULL THEN tstzmultirange(tstzrange(starts_at, ends_at)) "
    "ELSE tstzmultirange(tstzrange(starts_at, ends_at), tstzrange(moving_starts_at, moving_ends_at)) END)"
)
"""When an appointment keeps its staff member busy: while it is being moved, at both times."""

metadata = MetaData(naming_convention=NAMING)


customers = Table(
    "customers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("phone", Text),
    Column("time_zone", Text, nullable=False),
    timestamp("created_at", nullable=False),
)
Index("uq_customers_email", func.lower(customers.c.email), unique=True)

staff = Table(
    "staff",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("calcom_user_id", BigInteger, unique=True),
)
Index("uq_staff_email", func.lower(staff.c.email), unique=True)

composite_bookings = Table(
    "composite_bookings",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("customer_id", BigInteger, ForeignKey("customers.id"), nullable=False, index=True),
    Column("saga_id", UUID(as_uuid=False), unique=True),
    timestamp("created_at", nullable=False),
    timestamp("deleted_at"),
)

appointments = Table(
    "appointments",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("customer_id", BigInteger, ForeignKey("customers.id"), nullable=False, index=True),
    Column("staff_id", BigInteger, ForeignKey("staff.id")),
    Column("composite_id", BigInteger, ForeignKey("composite_bookings.id")),
    Column("segment", SmallInteger, nullable=False, server_default="0"),
    Column("event_type_id", Integer, nullable=False),
    Column("starts_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    timestamp("moving_starts_at"),
    timestamp("moving_ends_at"),
    Column("status", Text, nullable=False, server_default="pending"),
    Column("calcom_sync_status", Text, nullable=False, server_default="pending"),
    Column("calcom_v2_booking_id", Text, unique=True),
    Column("notes", Text),
    Column("location", Text),
    Column("guests", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("saga_id", UUID(as_uuid=False)),
    Column("sync_saga_id", UUID(as_uuid=False)),
    timestamp("created_at", nullable=False),
    timestamp("updated_at", nullable=False),
    timestamp("deleted_at"),
    CheckConstraint(among("status", STATUSES), name="status"),
    CheckConstraint(among("calcom_sync_status", SYNC_STATUSES), name="calcom_sync_status"),
    CheckConstraint("ends_at > starts_at", name="times"),
    CheckConstraint(
        "CASE WHEN moving_starts_at IS NULL THEN moving_ends_at IS NULL ELSE moving_ends_at > moving_starts_at END",
        name="moving",
    ),
    UniqueConstraint("saga_id", "segment"),
    CheckConstraint(
        "calcom_v2_booking_id IS NULL OR deleted_at IS NULL OR calcom_sync_status = 'cancelled'",
        name="no_orphaned_booking",
    ),
    CheckConstraint(
        "calcom_v2_booking_id IS NOT NULL OR status IN ('pending', 'failed')",
        name="no_orphaned_appointment",
    ),
    ExcludeConstraint(
        (text("int8range(staff_id, staff_id, '[]')"), "&&"),
        (text(_SLOTS), "&&"),
        where=text(f"staff_id IS NOT NULL AND deleted_at IS NULL AND status NOT IN {SLOT_FREE}"),
        name="ex_appointments_slot",
        using="gist",
    ),
)

Index("ix_appointments_composite_id", appointments.c.composite_id)
Index(
    "ix_appointments_live",
    appointments.c.starts_at,
    postgresql_where=text(f"deleted_at IS NULL AND status NOT IN {SLOT_FREE}"),
)
