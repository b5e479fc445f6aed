"""Acts of an operator on a case or a saga: what each would do, and having it done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagajobs.booking import findings
from sagajobs.desk import queries, standing
from sagajobs.desk.documents import cause_of, data_shown, explanation_document, prospect_document
from sagajobs.desk.wording import pairs, span
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
    with engine.database.reading() as connection:
        data = data_shown(connection, engine, case.saga_id)
    remedies = [
        {**_shown(remedy), "title": _TITLES[Remedy(remedy["act"])], "meaning": _MEANINGS[Remedy(remedy["act"])]}
        for remedy in document["remedies"]
    ]
    return {
        "case": {
            **document,
            "cause": cause_of(case),
            "age": span(case.age),
            "needed": standing.needed(case.urgent_at, case.urgent_in),
        },
        "data": data,
        "remedies": remedies,
    }


def settle(engine: Engine, number: int, remedy: str, form: Mapping[str, str], user: str) -> str:
    """Have a remedy done and return the id of the saga; raises as `ReviewDesk.retry` and its siblings."""
    more = {"reference": form.get("reference", "")} if remedy == Remedy.MARK_DONE else {}
    settled = getattr(engine.review, Remedy(remedy))(number, **_signature(form, user), **more)
    saga_id: str = settled.saga_id
    return saga_id


def settle_finding(engine: Engine, number: int, form: Mapping[str, str], user: str) -> None:
    """Have it on record that a finding has been taken care of; raises as `findings.settle_finding`."""
    findings.settle_finding(engine.database, number, **_signature(form, user))


def prospect(engine: Engine, saga_id: str, act: str) -> dict[str, Any]:
    """Return what pausing, resuming or cancelling a saga would do; raises as `explain_cancel`."""
    with engine.database.reading() as connection:
        full = queries.full_id(connection, saga_id)
        row = queries.saga(connection, full)
        saga = {"id": full, "name": row["name"], "state": row["state"]}
    return {"saga": saga, "act": act, "prospect": _shown(prospect_document(_EXPLAINS[act](engine, full)))}


def control(engine: Engine, saga_id: str, act: str, form: Mapping[str, str], user: str) -> str:
    """Have a saga paused, resumed or cancelled and return its id; raises as `SagaHandle.cancel` and its siblings."""
    getattr(SagaHandle(saga_id, engine=engine), act)(**_signature(form, user))
    return saga_id


def _signature(form: Mapping[str, str], user: str) -> dict[str, str]:
    """Return who and why; behind a name that is not that of the login, whose login it was: many may share one."""
    who = form.get("who", "").strip()
    if user and who and who.casefold() != user.casefold():
        who = f"{who} (logged in as {user})"
    # A browser sends line ends of its own kind.
    return {"who": who, "why": form.get("why", "").replace("\r\n", "\n")}


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    follows = [
        {**act, "calls": [{**call, "body": pairs(call["body"])} for call in act["calls"]]}
        for act in document["follows"]
    ]
    return {**document, "follows": follows}
