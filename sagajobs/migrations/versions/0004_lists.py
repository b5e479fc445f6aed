"""Lists of sagas by kind, and by the appointment that they are about."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE INDEX ix_sagas_name ON sagas (name, created_at, id)",
    """
    CREATE INDEX ix_sagas_appointment_id ON sagas ((input->>'appointment_id'))
        WHERE input->>'appointment_id' IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
