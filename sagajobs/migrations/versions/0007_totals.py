"""Sagas that have ended are added up, so that counters outlive the purge; who had to wait for a lock is in the history."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TOTALS = (
    """
    CREATE TABLE saga_totals (
        saga TEXT NOT NULL,
        measure TEXT NOT NULL,
        label TEXT NOT NULL,
        upto FLOAT NOT NULL,
        n BIGINT NOT NULL,
        total FLOAT NOT NULL,
        CONSTRAINT pk_saga_totals PRIMARY KEY (saga, measure, label, upto)
    )
    """,
    """
    CREATE TABLE saga_uncounted (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        saga_id UUID NOT NULL,
        CONSTRAINT pk_saga_uncounted PRIMARY KEY (id)
    )
    """,
    """
    CREATE OR REPLACE FUNCTION saga_ended() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO saga_uncounted (saga_id) VALUES (NEW.id);
            RETURN NULL;
        END $$
    """,
    """
    CREATE TRIGGER saga_ended AFTER UPDATE OF ended_at ON sagas FOR EACH ROW
         WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION saga_ended()
    """,
    # Behind the trigger's lock on the table: none ends unseen between the two.
    "INSERT INTO saga_uncounted (saga_id) SELECT id FROM sagas WHERE ended_at IS NOT NULL ORDER BY ended_at",
    # The purge kept totals of its own there.
    "UPDATE sweeps SET cursor = NULL WHERE name = 'purge'",
)

# Not for others: written while another saga's row is locked, it could be numbered in another order than committed.
OUTBOX = """
    CREATE OR REPLACE FUNCTION saga_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM switches WHERE name = 'saga.events' AND value) THEN
            INSERT INTO outbox (saga_id, saga, event, step, attempt, at, trace)
            SELECT f.saga_id, g.name, f.event, f.step, f.attempt, f.at, g.trace
            FROM fresh f JOIN sagas g ON g.id = f.saga_id WHERE f.event <> 'lock_acquired' ORDER BY f.id;
        END IF;
        RETURN NULL;
    END
    $$
"""

FORMER_OUTBOX = """
    CREATE OR REPLACE FUNCTION saga_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM switches WHERE name = 'saga.events' AND value) THEN
            INSERT INTO outbox (saga_id, saga, event, step, attempt, at, trace)
            SELECT f.saga_id, g.name, f.event, f.step, f.attempt, f.at, g.trace
            FROM fresh f JOIN sagas g ON g.id = f.saga_id ORDER BY f.id;
        END IF;
        RETURN NULL;
    END
    $$
"""

LOCKS = (
    """
    CREATE OR REPLACE FUNCTION saga_take_locks(taker uuid, wanted text[], patience double precision)
        RETURNS TABLE (missing text, over boolean) LANGUAGE plpgsql AS $$
        DECLARE r text;
        BEGIN
            FOR r IN SELECT DISTINCT w FROM unnest(wanted) w ORDER BY w LOOP
                PERFORM pg_advisory_xact_lock(4300, hashtext(r));
                DELETE FROM saga_locks l USING sagas g
                    WHERE l.resource = r AND g.id = l.saga_id AND g.ended_at IS NOT NULL;
                INSERT INTO saga_locks (resource, saga_id, held, waits_until)
                    VALUES (r, taker, false, saga_now() + make_interval(secs => patience)) ON CONFLICT DO NOTHING;
                WITH got AS (
                    UPDATE saga_locks l SET held = true, since = saga_now()
                        FROM saga_locks line
                        WHERE l.resource = r AND l.saga_id = taker AND NOT l.held
                        AND line.resource = r AND line.saga_id = taker
                        AND NOT EXISTS (SELECT FROM saga_locks o WHERE o.resource = r AND o.held)
                        AND taker = (
                            SELECT l.saga_id FROM saga_locks l JOIN sagas g ON g.id = l.saga_id
                            WHERE l.resource = r AND NOT l.held AND g.state IN ('pending', 'running', 'partial')
                            ORDER BY l.place LIMIT 1)
                        RETURNING l.saga_id, l.since - line.since AS waited)
                INSERT INTO saga_events (saga_id, event, detail)
                    SELECT got.saga_id, 'lock_acquired',
                        jsonb_build_object('waited_ms', round(1000 * extract(epoch FROM waited)))
                    FROM got WHERE waited > interval '0';
                RETURN QUERY SELECT r, l.waits_until <= saga_now() FROM saga_locks l
                    WHERE l.resource = r AND l.saga_id = taker AND NOT l.held;
                IF FOUND THEN RETURN; END IF;
            END LOOP;
        END $$
    """,
    """
    CREATE OR REPLACE FUNCTION saga_release_locks(holder uuid) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
        DECLARE r text;
        BEGIN
            FOR r IN SELECT l.resource FROM saga_locks l WHERE l.saga_id = holder ORDER BY l.resource LOOP
                PERFORM pg_advisory_xact_lock(4300, hashtext(r));
                DELETE FROM saga_locks l WHERE l.resource = r AND l.saga_id = holder;
                RETURN QUERY WITH got AS (
                    UPDATE saga_locks l SET held = true, since = saga_now()
                        FROM saga_locks line
                        WHERE l.resource = r AND line.resource = r AND line.saga_id = l.saga_id
                        AND l.saga_id = (
                            SELECT l.saga_id FROM saga_locks l JOIN sagas g ON g.id = l.saga_id
                            WHERE l.resource = r AND NOT l.held AND g.state IN ('pending', 'running', 'partial')
                            ORDER BY l.place LIMIT 1)
                        AND NOT EXISTS (SELECT FROM saga_locks o WHERE o.resource = r AND o.held)
                        RETURNING l.saga_id, l.since - line.since AS waited
                ), told AS (
                    INSERT INTO saga_events (saga_id, event, detail)
                        SELECT got.saga_id, 'lock_acquired',
                            jsonb_build_object('waited_ms', round(1000 * extract(epoch FROM waited)))
                        FROM got WHERE waited > interval '0'
                ) SELECT got.saga_id FROM got;
            END LOOP;
        END $$
    """,
)

FORMER_LOCKS = (
    """
    CREATE OR REPLACE FUNCTION saga_take_locks(taker uuid, wanted text[], patience double precision)
        RETURNS TABLE (missing text, over boolean) LANGUAGE plpgsql AS $$
        DECLARE r text;
        BEGIN
            FOR r IN SELECT DISTINCT w FROM unnest(wanted) w ORDER BY w LOOP
                PERFORM pg_advisory_xact_lock(4300, hashtext(r));
                DELETE FROM saga_locks l USING sagas g
                    WHERE l.resource = r AND g.id = l.saga_id AND g.ended_at IS NOT NULL;
                INSERT INTO saga_locks (resource, saga_id, held, waits_until)
                    VALUES (r, taker, false, saga_now() + make_interval(secs => patience)) ON CONFLICT DO NOTHING;
                UPDATE saga_locks l SET held = true, since = saga_now()
                    WHERE l.resource = r AND l.saga_id = taker AND NOT l.held
                    AND NOT EXISTS (SELECT FROM saga_locks o WHERE o.resource = r AND o.held)
                    AND taker = (
                        SELECT l.saga_id FROM saga_locks l JOIN sagas g ON g.id = l.saga_id
                        WHERE l.resource = r AND NOT l.held AND g.state IN ('pending', 'running', 'partial')
                        ORDER BY l.place LIMIT 1);
                RETURN QUERY SELECT r, l.waits_until <= saga_now() FROM saga_locks l
                    WHERE l.resource = r AND l.saga_id = taker AND NOT l.held;
                IF FOUND THEN RETURN; END IF;
            END LOOP;
        END $$
    """,
    """
    CREATE OR REPLACE FUNCTION saga_release_locks(holder uuid) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
        DECLARE r text;
        BEGIN
            FOR r IN SELECT l.resource FROM saga_locks l WHERE l.saga_id = holder ORDER BY l.resource LOOP
                PERFORM pg_advisory_xact_lock(4300, hashtext(r));
                DELETE FROM saga_locks l WHERE l.resource = r AND l.saga_id = holder;
                RETURN QUERY UPDATE saga_locks l SET held = true, since = saga_now()
                    WHERE l.resource = r
                    AND l.saga_id = (
                        SELECT l.saga_id FROM saga_locks l JOIN sagas g ON g.id = l.saga_id
                        WHERE l.resource = r AND NOT l.held AND g.state IN ('pending', 'running', 'partial')
                        ORDER BY l.place LIMIT 1)
                    AND NOT EXISTS (SELECT FROM saga_locks o WHERE o.resource = r AND o.held)
                    RETURNING l.saga_id;
            END LOOP;
        END $$
    """,
)


def upgrade() -> None:
    for statement in (*TOTALS, OUTBOX, *LOCKS):
        op.execute(statement)


def downgrade() -> None:
    for statement in (*FORMER_LOCKS, FORMER_OUTBOX):
        op.execute(statement)
    op.execute("DROP TRIGGER saga_ended ON sagas")
    op.execute("DROP FUNCTION saga_ended()")
    op.execute("DROP TABLE saga_uncounted")
    op.execute("DROP TABLE saga_totals")
