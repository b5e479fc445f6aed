"""The engine's SQL. Every statement has a name, says what it is for, and is counted against SPEC 8.

They are written by hand because they are the engine: each is one round trip, and what it locks, in which order, is what
the guarantees stand on. Lock order, everywhere: the step's row, then the saga's.
"""

from __future__ import annotations

from sqlalchemy import text

from sagajobs.saga.prepared import Prepared

FIRST_LOOK = 60
"""Seconds after its opening before a review case is looked at again: what failed a moment ago still does."""

RESPONSE_TIME = 900
"""Seconds within which somebody should settle a review case, before he is alerted again."""

URGENT_BEFORE = 3600
"""Seconds before the saga loses its use (the appointment begins) at which he is alerted in any case."""

BETWEEN_ALERTS = 300
"""Seconds, at least, between the alert of the opening and the next one, however near the appointment is."""

_REVIEW = "jsonb_to_record(CAST(:review AS jsonb)) AS r(reason text, evidence jsonb, urgent_at timestamptz)"
"""The question to a person, none if its reason is null."""

_CASE_TIMES = f"""
    coalesce(r.urgent_at, useful_until),
    saga_now() + interval '{FIRST_LOOK} s',
    greatest(
        saga_now() + interval '{BETWEEN_ALERTS} s',
        least(saga_now() + interval '{RESPONSE_TIME} s',
            coalesce(r.urgent_at, useful_until) - interval '{URGENT_BEFORE} s'))
"""
"""When a new case is urgent, looked at again, and alerted about again; `least` passes over a time that is unknown."""

START = text("""
    WITH saga AS (
        INSERT INTO sagas
            (id, name, version, definition, kind, state, input, idempotency_key, useful_until, trace, open_steps,
                next_at)
        VALUES (CAST(:id AS uuid), :name, :version, :definition, :kind, 'pending', CAST(:input AS jsonb),
                :idempotency_key, :useful_until, :trace, :open_steps,
                saga_now() + make_interval(secs => :stall_after))
        ON CONFLICT (name, idempotency_key) DO NOTHING
        RETURNING id
    ), steps AS (
        INSERT INTO saga_steps (saga_id, name, position, stage, external, state)
        SELECT saga.id, s.name, s.position, s.stage, s.external, s.state
        FROM saga, jsonb_to_recordset(CAST(:steps AS jsonb))
            AS s(name text, position smallint, stage smallint, external boolean, state text)
    ), event AS (
        INSERT INTO saga_events (saga_id, event, detail)
        SELECT id, 'saga_created', jsonb_build_object('name', CAST(:name AS text)) FROM saga
    )
    SELECT id FROM saga
""")
"""Start a saga: its row, all its steps and the first event. No row: the idempotency key is taken."""

SAME_START = text("""
    SELECT id, input = CAST(:input AS jsonb) AS same FROM sagas
    WHERE name = :name AND idempotency_key = :idempotency_key
""")
"""The saga that took the idempotency key, and whether it was asked to do the same."""

_SAGA = """
    g.id, g.name, g.version, g.definition, g.kind, g.state, g.stage, g.input, g.hints, g.error, g.useful_until,
    g.trace, g.useful_until < saga_now() AS late,
    (SELECT jsonb_object_agg(o.name, jsonb_build_object(
                'state', o.state, 'stage', o.stage, 'position', o.position, 'output', o.output, 'attempts', o.attempts,
                'leased', coalesce(o.lease_until > saga_now(), false),
                'in_doubt', coalesce(CAST(o.error->>'in_doubt' AS boolean), false),
                'finished', extract(epoch FROM o.finished_at)))
     FROM saga_steps o WHERE o.saga_id = g.id) AS steps
"""

READ = text(f"SELECT {_SAGA} FROM sagas g WHERE g.id = CAST(:id AS uuid)")  # noqa: S608 - no value in it
"""A saga and the states of its steps, nothing locked."""

READ_ALL = text(f"SELECT {_SAGA} FROM sagas g WHERE g.id = ANY (CAST(:ids AS uuid[]))")  # noqa: S608 - likewise
"""Likewise of many."""

LOOK = Prepared(
    "look",
    f"""
    WITH step AS (
        SELECT * FROM saga_steps WHERE saga_id = :id AND name = :step
        FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT {_SAGA},
        step.name AS step_name, step.state AS step_state, step.stage AS step_stage, step.attempts, step.undo_attempts,
        step.probes, step.absences, step.fence, step.output, step.error AS step_error,
        extract(epoch FROM saga_now() - step.absent_since) AS absent_for,
        coalesce(step.lease_until > saga_now(), false) AS leased,
        coalesce(step.due_at > saga_now(), false) AS early,
        extract(epoch FROM step.call_until - saga_now()) AS landing,
        extract(epoch FROM coalesce(step.due_at, step.lease_until) - saga_now()) AS wait
    FROM sagas g LEFT JOIN step ON true
    WHERE g.id = :id
""",  # noqa: S608 - no value in it
    id="uuid",
    step="text",
)
"""Look at one step of a saga and lock its row until the transaction ends.

SKIP LOCKED: a local step in work holds its row, and a duplicate delivery must not wait for it in a worker's slot. It
then sees no step (`step_name` is null) and ends.
"""

WRITE = Prepared(
    "write",
    f"""
    WITH step AS (
        UPDATE saga_steps SET
            state = :to, attempts = :attempts, undo_attempts = :undo_attempts, probes = :probes, absences = :absences,
            absent_since = CASE WHEN :absences = 0 THEN NULL ELSE coalesce(absent_since, saga_now()) END,
            fence = fence + :bump, owner = :owner,
            lease_until = saga_now() + make_interval(secs => :lease),
            call_until = CASE WHEN :to = 'unknown' THEN call_until END,
            due_at = saga_now() + make_interval(secs => :delay),
            output = coalesce(:output, output),
            error = CASE WHEN :forget THEN NULL ELSE coalesce(:error, error) END,
            receipt = coalesce(:receipt, receipt),
            started_at = coalesce(started_at, saga_now()),
            finished_at = CASE WHEN :finished THEN saga_now() ELSE finished_at END
        WHERE saga_id = :id AND name = :step AND fence = :fence AND state = :was
        RETURNING saga_id, fence
    ), saga AS (
        UPDATE sagas g SET
            state = CASE
                WHEN NOT g.state = ANY(:only_from) THEN g.state
                WHEN :over AND g.open_steps <= 1 AND :next_open = 0 THEN 'completed'
                ELSE :saga_to END,
            paused_from = CASE
                WHEN NOT g.paused_from = ANY(:only_from) THEN g.paused_from
                WHEN g.paused_from IS NULL THEN NULL
                WHEN :over AND g.open_steps <= 1 AND :next_open = 0 THEN 'completed'
                ELSE :saga_to END,
            stage = CASE WHEN :over AND g.open_steps <= 1 THEN :stage + 1 ELSE g.stage END,
            open_steps = CASE
                WHEN NOT :over THEN g.open_steps
                WHEN g.open_steps <= 1 THEN :next_open
                ELSE g.open_steps - 1 END,
            error = CASE WHEN coalesce(g.paused_from, g.state) = ANY(:only_from)
                THEN coalesce(:saga_error, g.error) ELSE g.error END,
            hints = CASE WHEN :progress THEN 0 ELSE g.hints END,
            next_at = CASE
                WHEN NOT g.state = ANY(:only_from) THEN
                    CASE WHEN g.next_at IS NULL THEN NULL ELSE saga_now() END
                WHEN :over AND g.open_steps <= 1 AND :next_open = 0 THEN NULL
                WHEN :next_in IS NULL THEN NULL
                WHEN :joins AND NOT (:over AND g.open_steps <= 1) THEN
                    least(g.next_at, saga_now() + make_interval(secs => :next_in))
                ELSE saga_now() + make_interval(secs => :next_in) END,
            ended_at = CASE
                WHEN g.state = ANY(:only_from) AND (:ends OR (:over AND g.open_steps <= 1 AND :next_open = 0))
                THEN saga_now() ELSE g.ended_at END,
            updated_at = saga_now()
        FROM step WHERE g.id = step.saga_id
        RETURNING g.id, g.state, g.stage, coalesce(g.paused_from, g.state) AS meant, g.ended_at
    ), event AS (
        INSERT INTO saga_events (saga_id, event, step, attempt, fence, detail)
        SELECT step.saga_id, e.event, e.step, e.attempt, step.fence, e.detail
        FROM step, saga, jsonb_to_recordset(:events)
            AS e(event text, step text, attempt smallint, detail jsonb, only_if text)
        WHERE e.only_if IS NULL OR e.only_if = saga.state
    ), review AS (
        INSERT INTO review_cases (saga_id, step, reason, evidence, was, urgent_at, look_at, alert_at)
        SELECT old.id, :step, r.reason, r.evidence,
            CASE WHEN coalesce(old.paused_from, old.state) = ANY(:only_from) THEN coalesce(old.paused_from, old.state)
                ELSE (:only_from)[1] END,
            {_CASE_TIMES}
        FROM saga JOIN sagas old USING (id), {_REVIEW}
        WHERE saga.meant = 'manual_review_required' AND saga.ended_at IS NULL AND r.reason IS NOT NULL
        ON CONFLICT (saga_id) WHERE closed_at IS NULL DO NOTHING
    )
    SELECT saga.state, saga.stage, step.fence,
        EXISTS (SELECT FROM saga_locks l WHERE l.saga_id = saga.id) AS locking
    FROM saga, step
""",  # noqa: S608 - no value in it
    id="uuid",
    step="text",
    fence="int",
    was="text",
    to="text",
    attempts="int",
    undo_attempts="int",
    probes="int",
    absences="int",
    bump="int",
    owner="text",
    lease="float8",
    delay="float8",
    output="jsonb",
    error="jsonb",
    forget="bool",
    receipt="jsonb",
    finished="bool",
    only_from="text[]",
    saga_to="text",
    stage="int",
    over="bool",
    next_open="int",
    joins="bool",
    saga_error="jsonb",
    progress="bool",
    next_in="float8",
    ends="bool",
    events="jsonb",
    review="jsonb",
)
"""The only statement by which a worker changes a step: fenced, with the saga's own progress and the history in one go.

No row: the claim is lost. `:only_from` are the states in which the saga itself may follow; a saga that was paused or
turned round in the meantime keeps its state (the step's outcome is recorded all the same: it happened), and if it is
under way somewhere, the sweep is told to look at once. While it is paused, what it would have come to is kept in
`paused_from`, so that resuming it makes that true; a case is opened for it at once. None is about a saga that has
ended: that is read of the row as locked (`saga`), as an abandon may have come after the statement's snapshot (`old`).

`:over` says that the step needs no more work going forward. Of steps that run side by side the last one moves the saga
on, to a stage of `:next_open` steps or, if that is 0, to its end. Which one is the last is decided by `open_steps`
under the lock of the saga's row: two that are done in the same moment take turns there, and the second one reads what
the first has left. While others are at work (`:joins`), `next_at` only comes nearer, so that it never passes over what
one of them waits for.
"""

POSTPONE = text("""
    WITH step AS (
        UPDATE saga_steps SET due_at = saga_now() + make_interval(secs => :delay)
        WHERE saga_id = CAST(:id AS uuid) AND name = :step AND fence = :fence AND state = :was
        RETURNING saga_id
    )
    UPDATE sagas g SET hints = 0, next_at = CASE
        WHEN :joins THEN least(g.next_at, saga_now() + make_interval(secs => :next_in))
        ELSE saga_now() + make_interval(secs => :next_in) END
    FROM step WHERE g.id = step.saga_id AND g.next_at IS NOT NULL
""")
"""Put a step off without trying it: a lock is not free, or what it needs outside is away. No attempt, no history."""

TURN = text(f"""
    WITH saga AS (
        UPDATE sagas g SET
            state = :to, next_at = saga_now() + make_interval(secs => :next_in), hints = 0, updated_at = saga_now(),
            ended_at = CASE WHEN :ends THEN saga_now() ELSE g.ended_at END,
            error = coalesce(CAST(:saga_error AS jsonb), g.error)
        WHERE g.id = CAST(:id AS uuid) AND g.state = :was
        RETURNING g.id, g.useful_until
    ), event AS (
        INSERT INTO saga_events (saga_id, event, detail)
        SELECT id, :event, CAST(:detail AS jsonb) FROM saga
    ), review AS (
        INSERT INTO review_cases (saga_id, reason, evidence, was, urgent_at, look_at, alert_at)
        SELECT saga.id, r.reason, r.evidence, :was, {_CASE_TIMES}
        FROM saga, {_REVIEW}
        WHERE r.reason IS NOT NULL
        ON CONFLICT (saga_id) WHERE closed_at IS NULL DO NOTHING
    )
    SELECT id FROM saga
""")  # noqa: S608 - no value in it
"""Change a saga's state where no step changes (compare and set). No row: it was not in that state any more."""

ADD_STEP = text("""
    WITH saga AS (
        UPDATE sagas SET state = 'running', stage = stage + 1, updated_at = saga_now(),
            next_at = saga_now() + make_interval(secs => :next_in)
        WHERE id = CAST(:id AS uuid) AND state IN ('pending', 'running') RETURNING id, stage
    ), step AS (
        INSERT INTO saga_steps (saga_id, name, position, stage, external, state, attempts, fence, owner, started_at)
        SELECT id, :step, stage - 1, stage - 1, true, 'running', 1, 1, :owner, saga_now() FROM saga
    ), event AS (
        INSERT INTO saga_events (saga_id, event, step, attempt, fence)
        SELECT id, 'step_executing', :step, 1, 1 FROM saga
    )
    SELECT stage FROM saga
""")
"""Put a step of an orchestrated saga on record, as begun: such a saga learns its steps as it goes."""

DUE = text("""
    SELECT id FROM sagas
    WHERE next_at <= saga_now()
        AND (kind = 'orchestrated' OR name = ANY(:known) OR next_at <= saga_now() - make_interval(secs => :nobody))
    ORDER BY next_at LIMIT :batch
""")
"""Sagas that have stood still, longest first; served by the partial index on `next_at`, so cost follows what is due.

Of kinds that this process does not know it leaves the sagas to the sweeps of those that do (a rolling deployment has
workers of both), until nobody has come for so long that nobody will.
"""

TAKE_DUE = text("""
    UPDATE sagas g SET hints = hints + 1,
        next_at = least(
            saga_now() + make_interval(secs => least(:stall_after * power(2, least(hints, 20)), :longest)),
            (SELECT min(coalesce(o.due_at, o.lease_until)) FROM saga_steps o
             WHERE o.saga_id = g.id AND o.state IN ('waiting', 'running', 'unknown', 'undoing')
                AND coalesce(o.due_at, o.lease_until) > saga_now()))
    WHERE id = CAST(:id AS uuid) AND next_at <= saga_now()
    RETURNING id, name, kind, state, stage, hints, trace, (
        SELECT array_agg(o.name ORDER BY o.position) FROM saga_steps o
        WHERE o.saga_id = g.id AND o.stage = g.stage AND o.state IN ('waiting', 'running', 'unknown')) AS open
""")
"""Take one due saga, so that a second sweep does not: the loser's row no longer matches after the winner's commit.

It is due again by the back-off, or sooner, when the next of its steps is: of several side by side one may be late while
another one only waits for its time.
"""

BEGUN = text("SELECT fence > 0 FROM saga_steps WHERE saga_id = CAST(:id AS uuid) AND name = :step")
"""Whether a step was ever claimed; an attempt that was put off in the middle is not counted, and raised the fence."""

STATUS = text("SELECT state FROM sagas WHERE id = CAST(:id AS uuid)")
"""What a handle polls."""
