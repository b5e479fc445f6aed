"""What the pages that only look show: the list, one saga, the review queue, health."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from sagajobs.calcom.circuit import Circuit
from sagajobs.calcom.quota import Quota
from sagajobs.desk import queries, searching, standing
from sagajobs.desk.documents import case_document, public_status, saga_document
from sagajobs.desk.drawing import Drawing, Outcome, Stretch, draw
from sagajobs.desk.health import health
from sagajobs.desk.queries import ListedSaga
from sagajobs.desk.wording import cause, doing, moment, pairs, span
from sagajobs.errors import InvalidInput
from sagajobs.saga import Engine, SagaState
from sagajobs.saga.statements import URGENT_BEFORE
from sagajobs.saga.states import ENDED
from sagajobs.saga.store import Store

ROWS = 50
"""Of a list's page."""

AGES = {"300": "5 minutes", "3600": "1 hour", "86400": "1 day", "604800": "1 week"}
"""Seconds, and how they are called."""

_COLOURS = {
    SagaState.PENDING: "secondary",
    SagaState.RUNNING: "primary",
    SagaState.COMPLETED: "success",
    SagaState.COMPENSATING: "warning",
    SagaState.COMPENSATED: "warning",
    SagaState.PARTIAL: "info",
    SagaState.MANUAL_REVIEW_REQUIRED: "danger",
    SagaState.PAUSED: "secondary",
}
"""Bootstrap's, by state; the word stands there, too."""


def saga_list(engine: Engine, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of the list.

    Args:
        engine: knows what customers are told.
        arguments: `q` to search; or `state`, `name`, `older`, `told` to filter and `before` to go on.

    Raises:
        InvalidInput, SagaNotFound: one of them makes no sense.
    """
    wanted = {name: arguments.get(name, "").strip() for name in ("q", "state", "name", "older", "told", "before")}
    if wanted["state"] and wanted["state"] not in list(SagaState):
        raise InvalidInput(f"{wanted['state']!r} is no state of a saga")
    if wanted["older"] and wanted["older"] not in AGES:
        raise InvalidInput(f"{wanted['older']!r} is no age; it is one of {', '.join(AGES)}")
    with engine.database.reading() as connection:
        if wanted["q"]:
            rows, goes_on_at = searching.search(connection, wanted["q"]), None
        else:
            rows, goes_on_at = _filtered(connection, engine, wanted)
        records = Store(connection).read_all([row.id for row in rows])
    going_on = {name: value for name, value in wanted.items() if value and name != "q"}
    return {
        "rows": [_row(engine, row, records.get(row.id)) for row in rows],
        "wanted": wanted,
        "states": [str(state) for state in SagaState],
        "kinds": sorted(engine.kinds),
        "ages": AGES,
        "words": list(searching.STATES_OF),
        "next": urlencode({**going_on, "before": goes_on_at}) if goes_on_at else None,
    }


def _filtered(connection: Any, engine: Engine, wanted: Mapping[str, str]) -> tuple[list[ListedSaga], str | None]:
    narrow: dict[str, Any] = {
        "state": SagaState(wanted["state"]) if wanted["state"] else None,
        "name": wanted["name"] or None,
        "older_than": float(wanted["older"] or 0),
        "before": queries.full_id(connection, wanted["before"]) if wanted["before"] else None,
    }
    if wanted["told"]:
        page = searching.told(connection, engine, wanted["told"], **narrow, limit=ROWS)
        return page.rows, page.goes_on_at
    rows = queries.saga_list(connection, **narrow, limit=ROWS + 1)
    return rows[:ROWS], rows[ROWS - 1].id if len(rows) > ROWS else None


def _row(engine: Engine, row: ListedSaga, record: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "state": str(row.state),
        "abandoned": row.abandoned,
        "colour": "secondary" if row.abandoned else _COLOURS[row.state],
        "told": "-" if record is None else public_status(engine, record),
        "step": row.step or "-",
        "age": span(row.age_seconds),
        "started": moment(row.created_at),
        "attempts": row.attempts,
    }


def one_saga(engine: Engine, given: str) -> dict[str, Any]:
    """Return all that is shown of a saga; `given` is its id, or the beginning of it. Raises as `queries.full_id`."""
    with engine.database.reading() as connection:
        full = queries.full_id(connection, given)
        document = saga_document(connection, engine, full, private=False)
    state = SagaState(document["state"])
    abandoned = state is SagaState.MANUAL_REVIEW_REQUIRED and document["ended_at"] is not None
    drawing = draw(document["events"], [step["name"] for step in document["steps"]], document["seconds"])
    return {
        "saga": {
            **document,
            "id": full,
            "abandoned": abandoned,
            "colour": "secondary" if abandoned else _COLOURS[state],
            "started": moment(document["created_at"]),
            "took": span(document["seconds"]),
            "useful": moment(document["useful_until"]),
            "because": _because(document["error"]),
            "next_look": span((document["next_at"] - document["now"]).total_seconds()) if document["next_at"] else "-",
        },
        "lanes": _lanes(drawing),
        "spans": span(drawing.seconds),
        "steps": [_step(step) for step in document["steps"]],
        "events": [
            {**event, "after": f"+{event['after']:.3f} s", "detail": pairs(event["detail"])}
            for event in document["events"]
        ],
        "reviews": [
            {**review, "opened": moment(review["opened_at"]), "closed": moment(review["closed_at"])}
            for review in document["reviews"]
        ],
        "acts": _acts(state, document),
    }


def _acts(state: SagaState, document: Mapping[str, Any]) -> list[str]:
    """Return the acts that may make sense; whether one does, its own page says."""
    if state in ENDED or state is SagaState.MANUAL_REVIEW_REQUIRED or document["kind"] != "declared":
        return []
    return ["resume", "cancel"] if state is SagaState.PAUSED else ["pause", "cancel"]


def _because(error: Mapping[str, Any] | None) -> str:
    if not error:
        return "-"
    step = error.get("step")
    return (f"{step}: " if step else "") + cause(error)


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **step,
        "took": span(step["seconds"]),
        "because": cause(step["error"]) if step["error"] else "-",
        "now": doing(step),
    }


def _lanes(drawing: Drawing) -> list[dict[str, Any]]:
    whole = drawing.seconds or 1.0
    return [
        {
            "step": lane.step or "the saga",
            "bars": [
                {
                    "bar": str(one.bar),
                    "outcome": str(one.outcome),
                    "left": f"{100 * one.begins / whole:.3f}",
                    "width": f"{100 * one.seconds / whole:.3f}",
                    "says": _says(one),
                }
                for one in lane.stretches
            ],
            "says": "; ".join(map(_says, lane.stretches)) or "nothing yet",
        }
        for lane in drawing.lanes
    ]


def _says(one: Stretch) -> str:
    number = f" {one.attempt}" if one.attempt else ""
    came_to = "" if one.outcome is Outcome.OVER else f", {one.outcome}"
    return f"{one.bar}{number}, {span(one.seconds)} from +{span(one.begins)}{came_to}"


def queue(engine: Engine) -> dict[str, Any]:
    """Return what waits for a person, the nearest appointment first."""
    found = engine.review.cases(ROWS + 1)
    rows = [
        {
            **case_document(case, private=False),
            "age": span(case.age),
            "needed_in": span(case.urgent_in),
            "urgent": case.urgent_in is not None and case.urgent_in < URGENT_BEFORE,
        }
        for case in found[:ROWS]
    ]
    return {"rows": rows, "more": len(found) > ROWS}


def how_all_stands(engine: Engine, *, circuit: Circuit | None, quota: Quota | None, workers: int) -> dict[str, Any]:
    """Return health, as `desk.health` finds it, with what there is to do; `workers` are those that Flower hears."""
    with engine.database.reading() as connection:
        found = health(connection, engine, circuit=circuit, quota=quota)
    oldest = found.oldest
    return {
        "health": found,
        "counts": [(str(state), found.counts.get(state, 0)) for state in SagaState if state not in ENDED],
        "oldest": None if oldest is None else {"id": oldest.id, "name": oldest.name, "age": span(oldest.age)},
        "sweeps": [
            {
                "name": sweep.name,
                "what": sweep.what,
                "every": span(sweep.every),
                "ran": standing.ran(sweep.age),
                "took": span(sweep.seconds),
                "found": sweep.found,
                "late": sweep.late,
            }
            for sweep in found.sweeps
        ],
        "workers": workers,
        "advice": standing.advice(found, workers),
        "circuit": standing.circuit(found),
        "quota": standing.quota(found),
        "drained": standing.drained(found),
    }
