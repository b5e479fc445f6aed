"""Sagas and cases as plain documents, for JSON and for pages: what is private is there only if it may be shown."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping

from sagajobs.desk import queries
from sagajobs.saga import Engine
from sagajobs.saga.cases import Case
from sagajobs.saga.explain import Explanation, Prospect
from sagajobs.saga.records import SagaRecord
from sagajobs.saga.store import Store

_log = logging.getLogger(__name__)

_PRIVATE = frozenset({"input", "idempotency_key", "output", "evidence", "closed_by", "why"})
"""Columns that may be about a customer."""

_PRIVATE_DETAIL = frozenset({"who", "why", "reference"})
"""What is shown of an operator's act only if what is private may be shown: he may have named a customer."""

_PUBLIC_ERROR = frozenset({"step", "class", "kind", "attempt", "refused"})
"""What may be shown of an error in any case: its message may quote a customer."""


def saga_document(connection: Connection, engine: Engine, saga_id: str, *, private: bool) -> dict[str, Any]:
    """Return all that is on record of a saga that exists: itself, its steps, its history, its cases.

    Args:
        connection: to read on.
        engine: knows the saga's class, if anybody here does, and with it what a customer may be told.
        saga_id: whole.
        private: with input, results, messages of errors and who did what by hand.
    """
    document = {
        **_shown(queries.saga(connection, saga_id), private=private),
        "steps": [_shown(row, private=private) for row in queries.steps(connection, saga_id)],
        "events": [
            {**_shown(row, private=private), "detail": _detail(row["detail"], private=private)}
            for row in queries.events(connection, saga_id)
        ],
        "reviews": [_shown(row, private=private) for row in queries.reviews(connection, saga_id)],
    }
    document["public_status"] = public_status(engine, Store(connection).read(saga_id))
    return document


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


def _shown(row: RowMapping, *, private: bool) -> dict[str, Any]:
    return {
        key: _error(value, private=private) if key == "error" else value
        for key, value in row.items()
        if private or key not in _PRIVATE
    }


def _detail(detail: Mapping[str, Any] | None, *, private: bool) -> dict[str, Any] | None:
    if detail is None:
        return None
    return {key: value for key, value in detail.items() if private or key not in _PRIVATE_DETAIL}


def _error(error: Mapping[str, Any] | None, *, private: bool) -> dict[str, Any] | None:
    if error is None:
        return None
    return {key: value for key, value in error.items() if private or key in _PUBLIC_ERROR}
