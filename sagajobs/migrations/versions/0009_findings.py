"""What reconciling finds is asked for by each page of health, and audit_log grows for ever."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX ix_audit_log_findings ON audit_log (at) WHERE action LIKE 'reconcile.%'")


def downgrade() -> None:
    op.execute("DROP INDEX ix_audit_log_findings")
