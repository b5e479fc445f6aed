"""What persons do to sagas goes into the audit log too, and a saga has no number."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE audit_log ALTER COLUMN entity_id DROP NOT NULL")


def downgrade() -> None:
    op.execute("DELETE FROM audit_log WHERE entity_id IS NULL")
    op.execute("ALTER TABLE audit_log ALTER COLUMN entity_id SET NOT NULL")
