"""Sagas and cases as plain documents, for JSON and for pages: what is private is there only if it may be shown."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from sqlalchemy import Connection, RowMapping

from sagajobs.desk import queries
from sagajobs.desk.masking import masked
from sagajobs.desk.wording import cause, pairs
from sagajobs.saga import Engine
from sagajobs.saga.cases import Case
from sagajobs.saga.events import Lifecycle
from sagajobs.saga.explain import Explanation, Prospect
from sagajobs.saga.records import SagaRecord
from sagajobs.saga.states import StepState
from sagajobs.saga.store import Store

_log = logging.getLogger(__name__)

LONGEST = 2000
"""Characters shown of an input, a result or a receipt: a page is made anew every four seconds."""

_PRIVATE = frozenset({"idempotency_key", "evidence", "closed_by", "why"})
"""Columns that may be about a customer."""

_MASKED = frozenset({"input", "output", "receipt"})
"""Columns of which only that is shown in any case which a saga's class says is about no person."""

_PRIVATE_DETAIL = frozenset({"who", "why", "reference"})
"""What is shown of an operator's act only if what is private may be shown: he may have named a customer."""

_PUBLIC_ERROR = frozenset({"step", "class", "kind", "attempt", "refused"})
"""What may be shown of an error in any case: its message may quote a customer."""

_UNDO_ERRORS = (Lifecycle.COMPENSATION_FAILED, Lifecycle.COMPENSATION_RETRY)
"""Events that tell why an undo failed: a step's own error is that of its attempts."""


def saga_document(connection: Connection, engine: Engine, saga_id: str, *, private: bool) -> dict[str, Any]:
    """Return all that is on record of a saga that exists: itself, its steps, its history, its cases.

    Args:
        connection: to read on.
        engine: knows the saga's class, if anybody here does, and with it what a customer may be told.
        saga_id: whole.
        private: with every value of input, results and receipts, messages of errors and who did what by hand.
    """
    record = Store(connection).read(saga_id)
    bare = None if private else _about_nobody(engine, record)
    steps, events = queries.steps(connection, saga_id), queries.events(connection, saga_id)
    undos = {
        row["step"]: row["detail"].get("error") for row in events if row["event"] in _UNDO_ERRORS and row["detail"]
    }
    document = {
        **_shown(queries.saga(connection, saga_id), bare),
        "steps": [
            {
                **_shown(row, bare),
                "undo_error": undos.get(row["name"]) if row["state"] != StepState.UNDONE else None,
            }
            for row in steps
        ],
        "events": [{**_shown(row, bare), "detail": _detail(row["detail"], private=private)} for row in events],
        "reviews": [_shown(row, bare) for row in queries.reviews(connection, saga_id)],
    }
    document["public_status"] = public_status(engine, record)
    return document


def data_shown(connection: Connection, engine: Engine, saga_id: str) -> list[tuple[str, str]]:
    """Return what `data_of` returns of a saga's masked document, without its history, which may be long."""
    bare = _about_nobody(engine, Store(connection).read(saga_id))
    steps = [_shown(row, bare) for row in queries.steps(connection, saga_id)]
    return data_of({**_shown(queries.saga(connection, saga_id), bare), "steps": steps})


def data_of(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return input, results and receipts of a saga's document as a person reads them: what each is, what it says.

    What is longer than `LONGEST` is cut, and says so.
    """
    steps = document["steps"]
    told = [
        ("Input", document["input"]),
        *((f"Result of {step['name']}", step["output"]) for step in steps if step["output"] is not None),
        *((f"Undo of {step['name']}", step["receipt"]) for step in steps if step["receipt"] is not None),
    ]
    return [(name, _cut(pairs(value))) for name, value in told]


def _cut(said: str) -> str:
    if len(said) <= LONGEST:
        return said
    return f"{said[:LONGEST]}… ({len(said)} characters in all; `sagajobs sagas show --json` has them)"


def public_status(engine: Engine, record: SagaRecord) -> str:
    """Return what a customer may be told of a saga; its state, where no class of this process can say it better."""
    kind = engine.kind_of(record)
    if kind is None:
        return str(record.state)
    try:
        return kind.public_status(record)
    except Exception as error:  # noqa: BLE001 - an author's code, with a saga of another version perhaps
        _log.warning("what customers are told of saga %s is not known (%s)", record.id, type(error).__name__)
        return str(record.state)


def case_document(case: Case, *, private: bool) -> dict[str, Any]:
    """Return a case."""
    document = {
        "case": case.number,
        "saga": case.saga_id,
        "name": case.name,
        "state": case.state,
        "step": case.step,
        "reason": case.reason,
        "cause": case_error(case).get("class"),
        "was": case.was,
        "urgent_at": case.urgent_at,
        "opened_at": case.opened_at,
        "age_seconds": case.age,
        "looks": case.looks,
        "alerts": case.alerts,
    }
    return {**document, "evidence": case.evidence} if private else document


def case_error(case: Case) -> Mapping[str, Any]:
    """Return the error that a case is about, as on record; empty if it is about none."""
    return case.evidence.get("error") or case.evidence.get("probe") or {}


def cause_of(case: Case) -> str:
    """Say by which class of error a case was opened, `-` if by none; nothing of its message."""
    name = case_error(case).get("class")
    return cause({"class": name}) if name else "-"


def explanation_document(explanation: Explanation, *, private: bool) -> dict[str, Any]:
    """Return a case with what each remedy would do."""
    remedies = [prospect_document(prospect) for prospect in explanation.prospects]
    return {**case_document(explanation.case, private=private), "remedies": remedies}


def prospect_document(prospect: Prospect) -> dict[str, Any]:
    """Return what one act would do, down to the calls."""
    return {
        "act": prospect.act,
        "refused": prospect.refused,
        "changes": list(prospect.changes),
        "follows": [
            {
                "step": act.step,
                "act": act.act,
                "external": act.external,
                "says": act.says,
                "calls": [dict(call) for call in act.calls],
            }
            for act in prospect.follows
        ],
    }


def _about_nobody(engine: Engine, record: SagaRecord) -> AbstractSet[str]:
    """Return the names whose values may be shown in any case; none of a saga that nobody here knows."""
    kind = engine.kind_of(record)
    return kind.shown if kind else frozenset()


def _shown(row: RowMapping, bare: AbstractSet[str] | None) -> dict[str, Any]:
    """Return a row, whole if `bare` is None; else without what is private, masked but for the values of these names."""
    if bare is None:
        return dict(row)
    return {key: _column(key, value, bare) for key, value in row.items() if key not in _PRIVATE}


def _column(key: str, value: Any, bare: AbstractSet[str]) -> Any:
    if value is None:
        return None
    if key == "error":
        return {name: inner for name, inner in value.items() if name in _PUBLIC_ERROR}
    return masked(value, bare) if key in _MASKED else value


def _detail(detail: Mapping[str, Any] | None, *, private: bool) -> dict[str, Any] | None:
    if detail is None:
        return None
    return {key: value for key, value in detail.items() if private or key not in _PRIVATE_DETAIL}
