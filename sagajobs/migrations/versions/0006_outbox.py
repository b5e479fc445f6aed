"""The outbox: what becomes of sagas, for others, on its way to the broker."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UP = (
    """
    CREATE TABLE outbox (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        saga_id UUID NOT NULL,
        saga TEXT NOT NULL,
        event TEXT NOT NULL,
        step TEXT,
        attempt SMALLINT,
        at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        trace TEXT
    )
    """,
    # In the statement that writes the history, so that it costs no query more; after all that the statement does, so
    # that the number is drawn while the saga's row is locked: a saga's events are numbered as they were committed.
    """
    CREATE FUNCTION saga_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM switches WHERE name = 'saga.events' AND value) THEN
            INSERT INTO outbox (saga_id, saga, event, step, attempt, at, trace)
            SELECT f.saga_id, g.name, f.event, f.step, f.attempt, f.at, g.trace
            FROM fresh f JOIN sagas g ON g.id = f.saga_id ORDER BY f.id;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER saga_events_outbox AFTER INSERT ON saga_events REFERENCING NEW TABLE AS fresh
        FOR EACH STATEMENT EXECUTE FUNCTION saga_outbox()
    """,
)


def upgrade() -> None:
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER saga_events_outbox ON saga_events")
    op.execute("DROP FUNCTION saga_outbox()")
    op.execute("DROP TABLE outbox")
