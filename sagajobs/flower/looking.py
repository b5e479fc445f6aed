"""What the pages that only look show: the list, one saga, the review queue, health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from sagajobs.booking.findings import findings, open_finding
from sagajobs.calcom.circuit import Circuit
from sagajobs.calcom.quota import Quota
from sagajobs.desk import queries, searching, standing
from sagajobs.desk.documents import case_document, cause_of, data_of, public_status, saga_document
from sagajobs.desk.drawing import Drawing, Outcome, Stretch, draw
from sagajobs.desk.health import health
from sagajobs.desk.queries import ListedSaga
from sagajobs.desk.scale import Cut, Scale
from sagajobs.desk.wording import cause, coming, doing, moment, pairs, since_start, span, trouble
from sagajobs.errors import InvalidInput
from sagajobs.saga import Engine, Remedy, SagaState
from sagajobs.saga.statements import URGENT_BEFORE
from sagajobs.saga.states import ENDED, StepState
from sagajobs.saga.store import Store

ROWS = 50
"""Of a list's page."""

AGES = {"300": "5 minutes", "3600": "1 hour", "86400": "1 day", "604800": "1 week"}
"""Seconds, and how they are called."""

SHOWN_EVENTS = 500
"""Of one saga's history, the latest: one that has been put off for days has thousands, and a page is made anew every
four seconds on Flower's own thread."""

SHOWN_BARS = 200
"""Of one step, the latest: a bar that is narrower than a point tells nothing."""

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
    scale = Scale(drawing)
    retried = {review["step"] for review in document["reviews"] if review["resolution"] == Remedy.RETRY}
    return {
        "saga": {
            **document,
            "id": full,
            "abandoned": abandoned,
            "colour": "secondary" if abandoned else _COLOURS[state],
            "started": moment(document["created_at"]),
            "took": span(document["seconds"]),
            "useful": moment(document["useful_until"]) if document["useful_until"] else "",
            "because": _because(document["error"]),
            "next_look": span((document["next_at"] - document["now"]).total_seconds()) if document["next_at"] else "",
        },
        "data": data_of(document),
        "lanes": _lanes(drawing, scale),
        "spans": span(drawing.seconds),
        "cuts": [{"at": _per_cent(scale.place((one.begins + one.ends) / 2)), "says": _cut(one)} for one in scale.cuts],
        "shortened": _shortened(scale.cuts),
        "steps": [_step(step, anew=step["name"] in retried) for step in document["steps"]],
        "events": [
            {**event, "after": since_start(event["after"]), "detail": pairs(event["detail"])}
            for event in document["events"][-SHOWN_EVENTS:]
        ],
        "more_events": max(len(document["events"]) - SHOWN_EVENTS, 0),
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
        return ""
    step = error.get("step")
    return (f"{step}: " if step else "") + cause(error)


def _step(step: Mapping[str, Any], *, anew: bool) -> dict[str, Any]:
    counted = {name: str(step[name]) for name in ("attempts", "undo_attempts", "probes")}
    if anew:
        # A retry, as a remedy, counts from nothing again: an undo's leaves the attempts as they were.
        undo = step["state"] in (StepState.UNDOING, StepState.UNDO_FAILED, StepState.UNDONE)
        counted["undo_attempts" if undo else "attempts"] += " since retry"
    return {
        **step,
        **counted,
        "took": span(step["seconds"]),
        "because": trouble(step),
        "now": doing(step),
    }


def _lanes(drawing: Drawing, scale: Scale) -> list[dict[str, Any]]:
    return [
        {
            "step": lane.step or "the saga",
            "bars": [
                {
                    "bar": str(one.bar),
                    "outcome": str(one.outcome),
                    "left": _per_cent(scale.place(one.begins)),
                    "width": _per_cent(scale.place(one.ends) - scale.place(one.begins)),
                    "says": _says(one),
                }
                for one in lane.stretches[-SHOWN_BARS:]
            ],
            "says": "; ".join(map(_says, lane.stretches[-SHOWN_BARS:])) or "nothing yet",
        }
        for lane in drawing.lanes
    ]


def _says(one: Stretch) -> str:
    number = f" {one.attempt}" if one.attempt else ""
    came_to = "" if one.outcome is Outcome.OVER else f", {one.outcome}"
    return f"{one.bar}{number}, {span(one.seconds)} from {since_start(one.begins)}{came_to}"


def _cut(one: Cut) -> str:
    return f"{span(one.seconds)} from {since_start(one.begins)}"


def _shortened(cuts: Sequence[Cut]) -> str:
    """Say what is drawn shortened, empty if nothing is."""
    if not cuts:
        return ""
    if len(cuts) == 1:
        return f"drawn shortened, as nothing was done: {_cut(cuts[0])}"
    whole = span(sum(one.seconds for one in cuts))
    return f"{len(cuts)} stretches in which nothing was done, {whole} in all, are drawn shortened"


def _per_cent(place: float) -> str:
    return f"{100 * place:.3f}"


def queue(engine: Engine, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of what waits for a person, the nearest appointment first.

    Args:
        engine: whose cases.
        arguments: `after`, the number of the case behind which to go on.

    Raises:
        CaseNotFound, InvalidInput: there is no such case.
    """
    after = arguments.get("after", "").strip()
    if after and not (after.isascii() and after.isdigit()):
        raise InvalidInput(f"{after!r} is no number of a case")
    found = engine.review.cases(ROWS + 1, after=int(after) if after else None)
    rows = [
        {
            **case_document(case, private=False),
            "cause": cause_of(case),
            "age": span(case.age),
            "needed": coming(case.urgent_in),
            "urgent": case.urgent_in is not None and case.urgent_in < URGENT_BEFORE,
        }
        for case in found[:ROWS]
    ]
    with engine.database.reading() as connection:
        left = findings(connection, ROWS) if not after else []
    return {
        "rows": rows,
        "after": after,
        "next": found[ROWS - 1].number if len(found) > ROWS else None,
        "findings": [{"finding": one, "begins": moment(one.starts_at)} for one in left],
    }


def one_finding(engine: Engine, number: int) -> dict[str, Any]:
    """Return something that reconciling has left to a person; raises as `findings.open_finding`."""
    with engine.database.reading() as connection:
        found = open_finding(connection, number)
    return {"finding": found, "begins": moment(found.starts_at), "found_at": moment(found.at)}


def how_all_stands(
    engine: Engine, *, circuit: Circuit | None, quota: Quota | None, workers: int | None
) -> dict[str, Any]:
    """Return health, as `desk.health` finds it, with what there is to do; of `workers` see `standing.advice`."""
    with engine.database.reading() as connection:
        found = health(connection, engine, circuit=circuit, quota=quota)
    oldest = found.backlog.oldest
    return {
        "health": found,
        "queue": standing.QUEUE,
        "left_alone": standing.is_left_alone(found) or found.circuit_silent,
        "quota_short": standing.is_quota_short(found),
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
        "too_late": standing.too_late(found.backlog),
        "workers": standing.workers(workers),
        "nobody_works": not workers,
        "advice": standing.advice(found, workers),
        "differences": standing.differences(found),
        "circuit": standing.circuit(found),
        "quota": standing.quota(found),
        "drained": standing.drained(found),
    }
