"""The engine's tables and the booking domain's, the clock, and the triggers that keep state machine and history."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE OR REPLACE FUNCTION saga_now()
        RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT statement_timestamp()'
    """,
    """
    CREATE TABLE sagas (
        id UUID NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        definition TEXT NOT NULL,
        kind TEXT DEFAULT 'declared' NOT NULL,
        state TEXT NOT NULL,
        paused_from TEXT,
        stage SMALLINT DEFAULT '0' NOT NULL,
        input JSONB NOT NULL,
        idempotency_key TEXT,
        useful_until TIMESTAMP WITH TIME ZONE,
        error JSONB,
        next_at TIMESTAMP WITH TIME ZONE,
        hints INTEGER DEFAULT '0' NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        ended_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_sagas PRIMARY KEY (id),
        CONSTRAINT uq_sagas_name UNIQUE (name, idempotency_key),
        CONSTRAINT ck_sagas_state CHECK (state IN ('compensated', 'compensating', 'completed', 'manual_review_required', 'partial', 'paused', 'pending', 'running')),
        CONSTRAINT ck_sagas_kind CHECK (kind IN ('declared', 'orchestrated')),
        CONSTRAINT ck_sagas_paused_from CHECK ((state = 'paused') = (paused_from IS NOT NULL)),
        CONSTRAINT ck_sagas_ended_at CHECK ((state IN ('compensated', 'completed')) = (ended_at IS NOT NULL)),
        CONSTRAINT ck_sagas_next_at CHECK ((state IN ('compensating', 'partial', 'pending', 'running')) = (next_at IS NOT NULL))
    )
    """,
    """
    CREATE INDEX ix_sagas_created_at ON sagas (created_at, id)
    """,
    """
    CREATE INDEX ix_sagas_due ON sagas (next_at) WHERE next_at IS NOT NULL
    """,
    """
    CREATE INDEX ix_sagas_state ON sagas (state, created_at) WHERE state <> 'completed'
    """,
    """
    CREATE TABLE review_cases (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        saga_id UUID NOT NULL,
        step TEXT,
        reason TEXT NOT NULL,
        evidence JSONB NOT NULL,
        urgent_at TIMESTAMP WITH TIME ZONE,
        opened_at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        closed_at TIMESTAMP WITH TIME ZONE,
        closed_by TEXT,
        resolution TEXT,
        CONSTRAINT pk_review_cases PRIMARY KEY (id),
        CONSTRAINT ck_review_cases_closed CHECK ((closed_at IS NULL) = (resolution IS NULL)),
        CONSTRAINT fk_review_cases_saga_id_sagas FOREIGN KEY(saga_id) REFERENCES sagas (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE UNIQUE INDEX uq_review_cases_open ON review_cases (saga_id) WHERE closed_at IS NULL
    """,
    """
    CREATE TABLE saga_events (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        saga_id UUID NOT NULL,
        at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        event TEXT NOT NULL,
        step TEXT,
        attempt SMALLINT,
        fence INTEGER,
        detail JSONB,
        CONSTRAINT pk_saga_events PRIMARY KEY (id),
        CONSTRAINT fk_saga_events_saga_id_sagas FOREIGN KEY(saga_id) REFERENCES sagas (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE INDEX ix_saga_events_saga_id ON saga_events (saga_id, id)
    """,
    """
    CREATE TABLE saga_steps (
        saga_id UUID NOT NULL,
        name TEXT NOT NULL,
        position SMALLINT NOT NULL,
        stage SMALLINT NOT NULL,
        external BOOLEAN NOT NULL,
        state TEXT NOT NULL,
        attempts SMALLINT DEFAULT '0' NOT NULL,
        undo_attempts SMALLINT DEFAULT '0' NOT NULL,
        probes SMALLINT DEFAULT '0' NOT NULL,
        absences SMALLINT DEFAULT '0' NOT NULL,
        absent_since TIMESTAMP WITH TIME ZONE,
        fence INTEGER DEFAULT '0' NOT NULL,
        owner TEXT,
        lease_until TIMESTAMP WITH TIME ZONE,
        due_at TIMESTAMP WITH TIME ZONE,
        output JSONB,
        error JSONB,
        receipt JSONB,
        started_at TIMESTAMP WITH TIME ZONE,
        finished_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_saga_steps PRIMARY KEY (saga_id, name),
        CONSTRAINT ck_saga_steps_state CHECK (state IN ('done', 'failed', 'running', 'skipped', 'undo_failed', 'undoing', 'undone', 'unknown', 'waiting')),
        CONSTRAINT ck_saga_steps_counts CHECK (attempts >= 0 AND undo_attempts >= 0 AND probes >= 0 AND absences >= 0),
        CONSTRAINT fk_saga_steps_saga_id_sagas FOREIGN KEY(saga_id) REFERENCES sagas (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE audit_log (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        entity TEXT NOT NULL,
        entity_id BIGINT NOT NULL,
        saga_id UUID,
        detail JSONB NOT NULL,
        CONSTRAINT pk_audit_log PRIMARY KEY (id)
    )
    """,
    """
    CREATE INDEX ix_audit_log_entity ON audit_log (entity, entity_id)
    """,
    """
    CREATE INDEX ix_audit_log_saga_id ON audit_log (saga_id)
    """,
    """
    CREATE TABLE customers (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        name TEXT NOT NULL,
        email TEXT NOT NULL,
        phone TEXT,
        time_zone TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        CONSTRAINT pk_customers PRIMARY KEY (id)
    )
    """,
    """
    CREATE UNIQUE INDEX uq_customers_email ON customers (lower(email))
    """,
    """
    CREATE TABLE staff (
        id BIGINT GENERATED BY DEFAULT AS IDENTITY,
        name TEXT NOT NULL,
        email TEXT NOT NULL,
        calcom_user_id BIGINT,
        CONSTRAINT pk_staff PRIMARY KEY (id),
        CONSTRAINT uq_staff_calcom_user_id UNIQUE (calcom_user_id)
    )
    """,
    """
    CREATE UNIQUE INDEX uq_staff_email ON staff (lower(email))
    """,
    """
    CREATE TABLE appointments (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        customer_id BIGINT NOT NULL,
        staff_id BIGINT,
        event_type_id INTEGER NOT NULL,
        starts_at TIMESTAMP WITH TIME ZONE NOT NULL,
        ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
        status TEXT DEFAULT 'pending' NOT NULL,
        calcom_sync_status TEXT DEFAULT 'pending' NOT NULL,
        calcom_v2_booking_id TEXT,
        notes TEXT,
        saga_id UUID,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT saga_now() NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_appointments PRIMARY KEY (id),
        CONSTRAINT ck_appointments_status CHECK (status IN ('pending', 'scheduled', 'confirmed', 'completed', 'cancelled', 'rescheduled', 'failed')),
        CONSTRAINT ck_appointments_calcom_sync_status CHECK (calcom_sync_status IN ('pending', 'synced', 'error', 'cancelled', 'manual_review_required')),
        CONSTRAINT ck_appointments_times CHECK (ends_at > starts_at),
        CONSTRAINT ck_appointments_no_orphaned_booking CHECK (calcom_v2_booking_id IS NULL OR deleted_at IS NULL OR calcom_sync_status = 'cancelled'),
        CONSTRAINT ck_appointments_no_orphaned_appointment CHECK (calcom_v2_booking_id IS NOT NULL OR status IN ('pending', 'failed')),
        CONSTRAINT ex_appointments_slot EXCLUDE USING gist (int8range(staff_id, staff_id, '[]') WITH &&, tstzrange(starts_at, ends_at) WITH &&) WHERE (staff_id IS NOT NULL AND deleted_at IS NULL AND status NOT IN ('cancelled', 'rescheduled', 'failed')),
        CONSTRAINT fk_appointments_customer_id_customers FOREIGN KEY(customer_id) REFERENCES customers (id),
        CONSTRAINT fk_appointments_staff_id_staff FOREIGN KEY(staff_id) REFERENCES staff (id),
        CONSTRAINT uq_appointments_calcom_v2_booking_id UNIQUE (calcom_v2_booking_id),
        CONSTRAINT uq_appointments_saga_id UNIQUE (saga_id)
    )
    """,
    """
    CREATE INDEX ix_appointments_customer_id ON appointments (customer_id)
    """,
    """
    CREATE INDEX ix_sagas_calcom_booking_uid ON sagas ((input->>'calcom_booking_uid'))
        WHERE input->>'calcom_booking_uid' IS NOT NULL
    """,
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
    CREATE TRIGGER saga_arrow BEFORE UPDATE OF state ON sagas FOR EACH ROW
         WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION saga_arrow()
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
    """
    CREATE TRIGGER saga_step_arrow BEFORE UPDATE OF state ON saga_steps FOR EACH ROW
         WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION saga_step_arrow()
    """,
    """
    CREATE OR REPLACE FUNCTION saga_history_stands() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'history is append-only' USING ERRCODE = 'check_violation';
        END $$
    """,
    """
    CREATE TRIGGER saga_history_stands BEFORE UPDATE ON saga_events FOR EACH ROW
         EXECUTE FUNCTION saga_history_stands()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in (
        "audit_log",
        "appointments",
        "staff",
        "customers",
        "review_cases",
        "saga_events",
        "saga_steps",
        "sagas",
    ):
        op.execute(f"DROP TABLE {table}")
    for function in ("saga_history_stands", "saga_step_arrow", "saga_arrow", "saga_now"):
        op.execute(f"DROP FUNCTION {function}()")
