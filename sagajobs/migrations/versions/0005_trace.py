"""What a trace of a saga's start is found by, for whatever is done for the saga later on, in any process."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE sagas ADD COLUMN trace text")


def downgrade() -> None:
    op.execute("ALTER TABLE sagas DROP COLUMN trace")
