"""Locks, parallel stages, review cases that are looked at again, composite bookings, appointments that move."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    # --- sagas ---
    "ALTER TABLE sagas ADD COLUMN open_steps SMALLINT DEFAULT '1' NOT NULL",
    "ALTER TABLE sagas DROP CONSTRAINT ck_sagas_ended_at",
    """
    ALTER TABLE sagas ADD CONSTRAINT ck_sagas_ended_at CHECK (
        CASE WHEN state IN ('compensated', 'completed') THEN ended_at IS NOT NULL
             WHEN state = 'manual_review_required' THEN true
             ELSE ended_at IS NULL END)
    """,
    "CREATE INDEX ix_sagas_ended ON sagas (ended_at) WHERE ended_at IS NOT NULL",
    """
    CREATE OR REPLACE FUNCTION saga_arrow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (OLD.state, NEW.state) NOT IN (
                ('pending', 'compensating'),
                ('pending', 'completed'),
                ('pending', 'manual_review_required'),
                ('pending', 'paused'),
                ('pending', 'running'),
                ('running', 'compensating'),
                ('running', 'completed'),
                ('running', 'manual_review_required'),
                ('running', 'partial'),
                ('running', 'paused'),
                ('partial', 'completed'),
                ('partial', 'manual_review_required'),
                ('partial', 'paused'),
                ('partial', 'running'),
                ('compensating', 'compensated'),
                ('compensating', 'manual_review_required'),
                ('compensating', 'paused'),
                ('paused', 'compensating'),
                ('paused', 'partial'),
                ('paused', 'pending'),
                ('paused', 'running'),
                ('manual_review_required', 'compensated'),
                ('manual_review_required', 'compensating'),
                ('manual_review_required', 'completed'),
                ('manual_review_required', 'running')
            ) THEN
                RAISE EXCEPTION 'illegal transition of % from % to %', TG_TABLE_NAME, OLD.state, NEW.state USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$
    """,
    """
    CREATE OR REPLACE FUNCTION saga_step_arrow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (OLD.state, NEW.state) NOT IN (
                ('waiting', 'done'),
                ('waiting', 'failed'),
                ('waiting', 'running'),
                ('waiting', 'skipped'),
                ('waiting', 'unknown'),
                ('running', 'done'),
                ('running', 'failed'),
                ('running', 'unknown'),
                ('running', 'waiting'),
                ('unknown', 'done'),
                ('unknown', 'failed'),
                ('unknown', 'waiting'),
                ('done', 'undoing'),
                ('done', 'undone'),
                ('failed', 'done'),
                ('failed', 'skipped'),
                ('failed', 'undoing'),
                ('failed', 'undone'),
                ('failed', 'waiting'),
                ('undoing', 'undo_failed'),
                ('undoing', 'undone'),
                ('undo_failed', 'undoing'),
                ('undo_failed', 'undone')
            ) THEN
                RAISE EXCEPTION 'illegal transition of % from % to %', TG_TABLE_NAME, OLD.state, NEW.state USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$
    """,
    # --- review cases ---
    """
    ALTER TABLE review_cases
        ADD COLUMN was TEXT DEFAULT 'running' NOT NULL,
        ADD COLUMN looks INTEGER DEFAULT '0' NOT NULL,
        ADD COLUMN look_at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        ADD COLUMN alerts INTEGER DEFAULT '0' NOT NULL,
        ADD COLUMN alert_at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        ADD COLUMN why TEXT,
        ADD CONSTRAINT ck_review_cases_was CHECK (was IN ('compensating', 'partial', 'pending', 'running'))
    """,
    "CREATE INDEX ix_review_cases_look_at ON review_cases (look_at) WHERE closed_at IS NULL",
    "CREATE INDEX ix_review_cases_alert_at ON review_cases (alert_at) WHERE closed_at IS NULL",
    "CREATE INDEX ix_review_cases_saga_id ON review_cases (saga_id)",
    # --- locks ---
    """
    CREATE TABLE saga_locks (
        resource TEXT NOT NULL,
        saga_id UUID NOT NULL,
        place BIGINT GENERATED ALWAYS AS IDENTITY,
        held BOOLEAN NOT NULL,
        waits_until TIMESTAMP WITH TIME ZONE,
        since TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        CONSTRAINT pk_saga_locks PRIMARY KEY (resource, saga_id),
        CONSTRAINT fk_saga_locks_saga_id_sagas FOREIGN KEY(saga_id) REFERENCES sagas (id) ON DELETE CASCADE
    )
    """,
    "CREATE UNIQUE INDEX uq_saga_locks_held ON saga_locks (resource) WHERE held",
    "CREATE INDEX ix_saga_locks_saga_id ON saga_locks (saga_id)",
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
    # --- sweeps and switches ---
    """
    CREATE TABLE sweeps (
        name TEXT NOT NULL,
        cursor JSONB,
        ran_at TIMESTAMP WITH TIME ZONE,
        seconds FLOAT,
        found INTEGER DEFAULT '0' NOT NULL,
        CONSTRAINT pk_sweeps PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE switches (
        name TEXT NOT NULL,
        value BOOLEAN NOT NULL,
        set_by TEXT NOT NULL,
        why TEXT NOT NULL,
        set_at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        CONSTRAINT pk_switches PRIMARY KEY (name)
    )
    """,
    # --- booking ---
    """
    CREATE TABLE composite_bookings (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        customer_id BIGINT NOT NULL,
        saga_id UUID,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_composite_bookings PRIMARY KEY (id),
        CONSTRAINT fk_composite_bookings_customer_id_customers FOREIGN KEY(customer_id) REFERENCES customers (id),
        CONSTRAINT uq_composite_bookings_saga_id UNIQUE (saga_id)
    )
    """,
    "CREATE INDEX ix_composite_bookings_customer_id ON composite_bookings (customer_id)",
    """
    ALTER TABLE appointments
        ADD COLUMN composite_id BIGINT,
        ADD COLUMN segment SMALLINT DEFAULT '0' NOT NULL,
        ADD COLUMN moving_starts_at TIMESTAMP WITH TIME ZONE,
        ADD COLUMN moving_ends_at TIMESTAMP WITH TIME ZONE,
        ADD COLUMN location TEXT,
        ADD COLUMN guests JSONB DEFAULT '[]'::jsonb NOT NULL,
        ADD COLUMN sync_saga_id UUID,
        ADD CONSTRAINT fk_appointments_composite_id_composite_bookings
            FOREIGN KEY(composite_id) REFERENCES composite_bookings (id),
        ADD CONSTRAINT ck_appointments_moving CHECK (
            CASE WHEN moving_starts_at IS NULL THEN moving_ends_at IS NULL ELSE moving_ends_at > moving_starts_at END),
        DROP CONSTRAINT uq_appointments_saga_id,
        ADD CONSTRAINT uq_appointments_saga_id UNIQUE (saga_id, segment),
        DROP CONSTRAINT ex_appointments_slot,
        ADD CONSTRAINT ex_appointments_slot EXCLUDE USING gist (
            int8range(staff_id, staff_id, '[]') WITH &&,
            (CASE WHEN moving_starts_at IS NULL THEN tstzmultirange(tstzrange(starts_at, ends_at))
                  ELSE tstzmultirange(tstzrange(starts_at, ends_at), tstzrange(moving_starts_at, moving_ends_at)) END) WITH &&
        ) WHERE (staff_id IS NOT NULL AND deleted_at IS NULL AND status NOT IN ('cancelled', 'failed'))
    """,
    # Writes of one staff member's slots take turns: two that meet in the exclusion constraint, each with a row that the
    # other one has to wait for, are a deadlock.
    """
    CREATE OR REPLACE FUNCTION appointment_turn() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.staff_id IS NOT NULL THEN
                PERFORM pg_advisory_xact_lock(20748, hashint8(NEW.staff_id));
            END IF;
            RETURN NEW;
        END $$
    """,
    """
    CREATE TRIGGER appointment_turn BEFORE INSERT OR UPDATE ON appointments
        FOR EACH ROW EXECUTE FUNCTION appointment_turn()
    """,
    "CREATE INDEX ix_appointments_composite_id ON appointments (composite_id)",
    """
    CREATE INDEX ix_appointments_live ON appointments (starts_at)
        WHERE deleted_at IS NULL AND status NOT IN ('cancelled', 'failed')
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
