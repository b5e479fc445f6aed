"""The lifecycle events on the log channel `saga` (SPEC 3; the seed's eight by name, and a few that join them).

A record carries `event`, `saga_id`, `saga`, `step`, `attempt` as attributes, so that a structured formatter can show
them; never an input, a result or the text of an exception, which may quote a customer (SPEC G7).
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import NamedTuple

log = logging.getLogger("saga")


class Lifecycle(StrEnum):
    """Names of lifecycle events, in the log and in the history alike."""

    SAGA_CREATED = "saga_created"
    STEP_EXECUTING = "step_executing"
    STEP_COMPLETED = "step_completed"
    STEP_FAILED = "step_failed"
    COMPENSATION_STARTED = "compensation_started"
    COMPENSATION_COMPLETED = "compensation_completed"
    COMPENSATION_FAILED = "compensation_failed"
    SAGA_COMPLETED = "saga_completed"
    STEP_SKIPPED = "step_skipped"
    STEP_RETRY = "step_retry"
    STEP_DEGRADED = "step_degraded"
    STEP_UNKNOWN = "step_unknown"
    STEP_PROBED = "step_probed"
    COMPENSATION_RETRY = "compensation_retry"
    SAGA_COMPENSATED = "saga_compensated"
    SAGA_HINTED = "saga_hinted"
    REVIEW_REQUIRED = "review_required"
    REVIEW_CLOSED = "review_closed"
    SAGA_PAUSED = "saga_paused"
    SAGA_RESUMED = "saga_resumed"
    SAGA_CANCELLED = "saga_cancelled"
    SAGA_ABANDONED = "saga_abandoned"
    REVIEW_OVERDUE = "review_overdue"


class _Sentence(NamedTuple):
    level: int
    text: str


_SENTENCES = {
    Lifecycle.SAGA_CREATED: _Sentence(logging.INFO, "Starting saga"),
    Lifecycle.STEP_EXECUTING: _Sentence(logging.DEBUG, "Executing step"),
    Lifecycle.STEP_COMPLETED: _Sentence(logging.INFO, "Step completed"),
    Lifecycle.STEP_FAILED: _Sentence(logging.WARNING, "Step failed"),
    Lifecycle.COMPENSATION_STARTED: _Sentence(logging.WARNING, "Compensating step"),
    Lifecycle.COMPENSATION_COMPLETED: _Sentence(logging.WARNING, "Compensation succeeded"),
    Lifecycle.COMPENSATION_FAILED: _Sentence(logging.CRITICAL, "CRITICAL: Compensation failed"),
    Lifecycle.SAGA_COMPLETED: _Sentence(logging.INFO, "Saga completed successfully"),
    Lifecycle.STEP_SKIPPED: _Sentence(logging.INFO, "Step skipped"),
    Lifecycle.STEP_RETRY: _Sentence(logging.WARNING, "Step to be tried again"),
    Lifecycle.STEP_DEGRADED: _Sentence(logging.ERROR, "Step marked for retry"),
    Lifecycle.STEP_UNKNOWN: _Sentence(logging.WARNING, "Step's outcome unknown, a probe will tell"),
    Lifecycle.STEP_PROBED: _Sentence(logging.INFO, "Step probed"),
    Lifecycle.COMPENSATION_RETRY: _Sentence(logging.WARNING, "Compensation to be tried again"),
    Lifecycle.SAGA_COMPENSATED: _Sentence(logging.WARNING, "Saga compensated"),
    Lifecycle.SAGA_HINTED: _Sentence(logging.INFO, "Saga hinted at by the sweep"),
    Lifecycle.REVIEW_REQUIRED: _Sentence(logging.CRITICAL, "CRITICAL: Manual review required"),
    Lifecycle.REVIEW_CLOSED: _Sentence(logging.WARNING, "Manual review settled"),
    Lifecycle.SAGA_PAUSED: _Sentence(logging.WARNING, "Saga paused"),
    Lifecycle.SAGA_RESUMED: _Sentence(logging.WARNING, "Saga resumed"),
    Lifecycle.SAGA_CANCELLED: _Sentence(logging.WARNING, "Saga cancelled, it is undone"),
    Lifecycle.SAGA_ABANDONED: _Sentence(logging.ERROR, "Saga abandoned unsolved"),
    Lifecycle.REVIEW_OVERDUE: _Sentence(logging.CRITICAL, "CRITICAL: Manual review overdue"),
}


def emit(
    event: Lifecycle,
    *,
    saga: str,
    saga_id: str,
    step: str | None = None,
    attempt: int | None = None,
    trace: str | None = None,
) -> None:
    """Write one lifecycle event to the log channel, after the commit that made it true."""
    level, text = _SENTENCES[event]
    if not log.isEnabledFor(level):
        return
    parts = [f"saga: {saga}"]
    if step is not None:
        parts.append(f"step: {step}")
    if attempt:
        parts.append(f"attempt: {attempt}")
    log.log(
        level,
        "%s (%s, saga_id: %s)",
        text,
        ", ".join(parts),
        saga_id,
        extra={"event": str(event), "saga_id": saga_id, "saga": saga, "step": step, "attempt": attempt, "trace": trace},
    )
