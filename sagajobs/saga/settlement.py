"""The statements by which a remedy is written, on one connection; the desk (`review`) decides which, and commits."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, text

from sagajobs.errors import ClaimLost
from sagajobs.saga.audit import put_on_record
from sagajobs.saga.cases import Case
from sagajobs.saga.events import Lifecycle
from sagajobs.saga.operator import Signature
from sagajobs.saga.remedies import Resolution, StepChange
from sagajobs.saga.states import UNFINISHED, SagaState, StepState

_LOCK_STEPS = text("""
    SELECT name FROM saga_steps
    WHERE saga_id = CAST(:id AS uuid) AND (name = :step OR CAST(:step AS text) IS NULL)
    ORDER BY position FOR NO KEY UPDATE
""")
"""The step in question or, if none is, all of them; whoever works on one is waited for."""

_LOCK_SAGA = text("SELECT id FROM sagas WHERE id = CAST(:id AS uuid) FOR NO KEY UPDATE")

_CHANGE_STEP = text("""
    UPDATE saga_steps SET
        state = :to, fence = fence + 1, owner = NULL, lease_until = NULL, due_at = NULL, absences = 0,
        absent_since = NULL,
        attempts = CASE WHEN :fresh AND :to <> 'undo_failed' THEN 0 ELSE attempts END,
        undo_attempts = CASE WHEN :fresh THEN 0 ELSE undo_attempts END,
        probes = CASE WHEN :fresh THEN 0 ELSE probes END,
        output = coalesce(CAST(:output AS jsonb), output),
        receipt = coalesce(CAST(:receipt AS jsonb), receipt),
        error = CASE
            WHEN NOT :settled THEN error
            WHEN CAST(error->>'in_doubt' AS boolean) AND :to IN ('waiting', 'running')
            THEN error - 'attempt' - 'refused' END,
        finished_at = CASE WHEN :to = 'done' THEN coalesce(finished_at, saga_now()) ELSE finished_at END
    WHERE saga_id = CAST(:id AS uuid) AND name = :step AND state = :was
""")
"""Change a step that nobody works on, under its lock; the fence keeps out whoever still thinks that it is his.

Its error goes with what it was about (`:settled`), but for the word that an earlier attempt may stand.
"""

_SETTLE = text("""
    UPDATE sagas SET
        state = :to, stage = :stage, open_steps = :open_steps, hints = 0, updated_at = saga_now(),
        error = CASE WHEN :forward THEN NULL ELSE coalesce(error, CAST(:error AS jsonb)) END,
        next_at = saga_now() + make_interval(secs => :next_in),
        ended_at = CASE WHEN :ends THEN saga_now() END
    WHERE id = CAST(:id AS uuid) AND state = 'manual_review_required' AND ended_at IS NULL
""")

_CLOSE = text("""
    UPDATE review_cases SET closed_at = saga_now(), closed_by = :who, resolution = :remedy, why = :why
    WHERE id = :case AND closed_at IS NULL
""")

_HISTORY = text("""
    INSERT INTO saga_events (saga_id, event, step, fence, detail)
    SELECT CAST(:id AS uuid), :event, :step, (
        SELECT fence FROM saga_steps WHERE saga_id = CAST(:id AS uuid) AND name = :step), CAST(:detail AS jsonb)
""")

_ASK_AGAIN = text("""
    INSERT INTO review_cases (saga_id, step, reason, evidence, was, urgent_at)
    SELECT s.saga_id, s.name,
        CASE WHEN s.error->>'class' = 'AttemptsExhausted' THEN 'every attempt died at work'
            WHEN CAST(s.error->>'in_doubt' AS boolean) THEN 'nothing can tell whether it happened'
            ELSE 'failed past the pivot' END,
        jsonb_build_object('error', s.error), 'running', c.urgent_at
    FROM review_cases c JOIN saga_steps s USING (saga_id) WHERE c.id = :case AND s.name = :step
""")
"""Open another case for a step that failed beside the one in question, which nobody was asked about."""


class Settlement:
    """What a remedy writes about one case.

    Args:
        connection: in the transaction whose commit makes it so.
        case: the case; `lock` must come first.
    """

    def __init__(self, connection: Connection, case: Case) -> None:
        self._connection = connection
        self._case = case

    def lock(self) -> None:
        """Lock what a remedy changes, in the engine's order: steps, then the saga; what was read before is old."""
        self._connection.execute(_LOCK_STEPS, {"id": self._case.saga_id, "step": self._case.step})
        self._connection.execute(_LOCK_SAGA, {"id": self._case.saga_id})

    def change(self, change: StepChange, result: Any, receipt: Any) -> None:
        """Take a step through its states.

        Args:
            change: which step, and through which states.
            result: what becomes its result where it is done.
            receipt: what becomes its receipt where it is undone.

        Raises:
            ClaimLost: it is in another state by now.
        """
        was = change.was
        for to in change.path or (change.was,):
            changed = self._connection.execute(
                _CHANGE_STEP,
                {
                    "id": self._case.saga_id,
                    "step": change.name,
                    "was": was,
                    "to": to,
                    "fresh": change.fresh,
                    "settled": bool(change.path) or was is StepState.DONE,
                    "output": json.dumps(result) if to is StepState.DONE and result is not None else None,
                    "receipt": json.dumps(receipt) if to is StepState.UNDONE and receipt is not None else None,
                },
            )
            if changed.rowcount != 1:
                raise ClaimLost(f"saga {self._case.saga_id}: step {change.name} is not {was} any more")
            was = to

    def move(self, resolution: Resolution, *, next_in: float) -> None:
        """Take the saga to where a remedy has it; `next_in`: seconds until the sweep looks, if it goes on.

        Raises:
            ClaimLost: it does not wait for a person any more.
        """
        goes_on = resolution.to in UNFINISHED
        turned = resolution.to is SagaState.COMPENSATING and self._case.was is not SagaState.COMPENSATING
        error = {"step": self._case.step, "class": "UndoneByHand", "message": "undone by hand", "kind": "permanent"}
        moved = self._connection.execute(
            _SETTLE,
            {
                "id": self._case.saga_id,
                "error": json.dumps(error) if turned else None,
                "to": resolution.to,
                "stage": resolution.stage,
                "open_steps": resolution.open_steps,
                "forward": resolution.to in (SagaState.RUNNING, SagaState.COMPLETED),
                "next_in": next_in if goes_on else None,
                "ends": resolution.ends,
            },
        )
        if moved.rowcount != 1:
            raise ClaimLost(f"saga {self._case.saga_id} does not wait for a person any more")

    def close(self, resolution: Resolution, signature: Signature, reference: str | None) -> None:
        """Close the case, put that on record and, where another step has failed meanwhile, open a case about that.

        `reference` is what a person has found outside, if he has.
        """
        closed = {"case": self._case.number, "who": signature.who, "why": signature.why, "remedy": resolution.remedy}
        self._connection.execute(_CLOSE, closed)
        put_on_record(
            self._connection,
            signature,
            f"case.{resolution.remedy}",
            entity="case",
            entity_id=self._case.number,
            saga_id=self._case.saga_id,
            saga=self._case.name,
            step=self._case.step,
            was=self._case.was,
            now=resolution.to,
            reference=reference,
        )
        if resolution.ask_about is not None:
            self._connection.execute(_ASK_AGAIN, {"case": self._case.number, "step": resolution.ask_about})

    def note(self, event: Lifecycle, step: str | None = None, detail: Any = None) -> None:
        """Write a line of the saga's history."""
        written = None if detail is None else json.dumps(detail)
        self._connection.execute(_HISTORY, {"id": self._case.saga_id, "event": event, "step": step, "detail": written})
