"""Acts of an operator on a case or a saga: what each would do, and having it done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagajobs.desk import queries
from sagajobs.desk.documents import case_error, explanation_document, prospect_document
from sagajobs.desk.wording import cause, moment, pairs, span
from sagajobs.saga import Engine, Remedy, SagaHandle
from sagajobs.saga.explain import explain, explain_cancel, explain_pause, explain_resume

_EXPLAINS = {"pause": explain_pause, "resume": explain_resume, "cancel": explain_cancel}

_TITLES = {
    Remedy.RETRY: "Retry",
    Remedy.SKIP: "Skip",
    Remedy.MARK_DONE: "Mark as done",
    Remedy.MARK_UNDONE: "Mark as undone",
    Remedy.ABANDON: "Abandon",
}

_MEANINGS = {
    Remedy.RETRY: "Try again, with fresh attempts and looks.",
    Remedy.SKIP: "Go on without the step that failed.",
    Remedy.MARK_DONE: "It stands: it was done by hand, or is there after all.",
    Remedy.MARK_UNDONE: "It does not stand, or does not any more.",
    Remedy.ABANDON: "Leave the saga as it is, unsolved, for good.",
}


def prospects(engine: Engine, number: int) -> dict[str, Any]:
    """Return an open case with what each remedy would do; raises as `explain`."""
    explanation = explain(engine, number)
    case = explanation.case
    document = explanation_document(explanation, private=False)
    remedies = [
        {**_shown(remedy), "title": _TITLES[Remedy(remedy["act"])], "meaning": _MEANINGS[Remedy(remedy["act"])]}
        for remedy in document["remedies"]
    ]
    error = case_error(case)
    return {
        "case": {
            **document,
            "cause": cause({"class": error["class"]}) if error.get("class") else "-",
            "age": span(case.age),
            "urgent": moment(case.urgent_at),
            "urgent_in": span(case.urgent_in),
        },
        "remedies": remedies,
    }


def settle(engine: Engine, number: int, remedy: str, form: Mapping[str, str]) -> str:
    """Have a remedy done and return the id of the saga; raises as `ReviewDesk.retry` and its siblings."""
    more = {"reference": form.get("reference", "")} if remedy == Remedy.MARK_DONE else {}
    settled = getattr(engine.review, Remedy(remedy))(number, **_signature(form), **more)
    saga_id: str = settled.saga_id
    return saga_id


def prospect(engine: Engine, saga_id: str, act: str) -> dict[str, Any]:
    """Return what pausing, resuming or cancelling a saga would do; raises as `explain_cancel`."""
    with engine.database.reading() as connection:
        full = queries.full_id(connection, saga_id)
        row = queries.saga(connection, full)
        saga = {"id": full, "name": row["name"], "state": row["state"]}
    return {"saga": saga, "act": act, "prospect": _shown(prospect_document(_EXPLAINS[act](engine, full)))}


def control(engine: Engine, saga_id: str, act: str, form: Mapping[str, str]) -> str:
    """Have a saga paused, resumed or cancelled and return its id; raises as `SagaHandle.cancel` and its siblings."""
    getattr(SagaHandle(saga_id, engine=engine), act)(**_signature(form))
    return saga_id


def _signature(form: Mapping[str, str]) -> dict[str, str]:
    # A browser sends line ends of its own kind.
    return {"who": form.get("who", ""), "why": form.get("why", "").replace("\r\n", "\n")}


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    follows = [
        {**act, "calls": [{**call, "body": pairs(call["body"])} for call in act["calls"]]}
        for act in document["follows"]
    ]
    return {**document, "follows": follows}
