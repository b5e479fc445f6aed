"""The pages: each asks the desk and returns what its template shows; no HTTP, no Flower, and no decision here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import Any

from psycopg2.errors import QueryCanceled
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from sagajobs import root
from sagajobs.desk.answering import workers_answering
from sagajobs.desk.readiness import check_tables
from sagajobs.errors import (
    CaseClosed,
    CaseNotFound,
    ConfigurationError,
    InvalidInput,
    RemedyRefused,
    SagajobsError,
    SagaNotFound,
)
from sagajobs.flower import acting, looking

LONGEST = 5
"""Seconds that a statement of ours may take: somebody waits for the page."""

PATIENCE = 20.0
"""Seconds after which somebody is told that there is no answer: a frozen server ends no statement, whatever its limit;
and what a remedy would do takes some calls to Cal.com."""

_THREADS = 4
"""So many pages are made at once. Threads of our own: a database that hangs must not use up those of Flower's pages."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.

    Attributes:
        page: its name, as in `PAGES`.
        path: the parts of its path.
        arguments: of the query or, for an act, of the form.
        acts: something is to be changed.
        user: the name of who has logged in, empty without a login.
        refusal: why nothing may be changed here, None if it may.
        workers: how many Flower hears.
    """

    page: str
    path: tuple[str, ...]
    arguments: Mapping[str, str]
    acts: bool
    user: str
    refusal: str | None
    workers: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of it.

    Attributes:
        template: its name, without folder and ending.
        values: what the template shows.
        status: of HTTP.
        saga: the id of the saga whose Celery tasks are to be shown, too.
        see: name and arguments of the page to go to instead.
    """

    template: str = "message"
    values: Mapping[str, Any] = field(default_factory=dict)
    status: HTTPStatus = HTTPStatus.OK
    saga: str | None = None
    see: tuple[str, ...] | None = None


_STATUSES: tuple[tuple[type[SagajobsError], HTTPStatus], ...] = (
    (InvalidInput, HTTPStatus.BAD_REQUEST),
    (SagaNotFound, HTTPStatus.NOT_FOUND),
    (CaseNotFound, HTTPStatus.NOT_FOUND),
    (CaseClosed, HTTPStatus.CONFLICT),
    (RemedyRefused, HTTPStatus.CONFLICT),
    (ConfigurationError, HTTPStatus.SERVICE_UNAVAILABLE),
)


@cache
def threads() -> ThreadPoolExecutor:
    """Return the threads in which pages are made."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="sagas")


async def in_time(
    request: Request, answers: Callable[[Request], Answer] | None = None, patience: float = PATIENCE
) -> Answer:
    """Return what becomes of a request, or that it takes longer than somebody waits."""
    asked = asyncio.get_running_loop().run_in_executor(threads(), answers or answer, request)
    asked.add_done_callback(_heard)
    await asyncio.wait([asked], timeout=patience)
    if asked.done():
        return asked.result()
    asked.cancel()  # if no thread has taken it up yet, it is not done any more
    line = f"There was no answer within {patience:g} s; see to the server of SAGAJOBS_DATABASE_URL."
    if request.acts:
        line += " What you asked for may be done all the same: look at the history before you ask again."
    return _message(line, HTTPStatus.SERVICE_UNAVAILABLE, request)


def _heard(late: asyncio.Future[Answer]) -> None:
    """Take note of an error that comes too late, or asyncio would log its text."""
    if not late.cancelled():
        late.exception()


def answer(request: Request) -> Answer:
    """Return what becomes of a request; what went wrong is an answer, too, of one line."""
    try:
        return _answer(request)
    except SagajobsError as error:
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.CONFLICT)
        return _message(str(error), status, request)
    except DBAPIError as error:
        return _message(_said_of(error), HTTPStatus.SERVICE_UNAVAILABLE, request)


def _answer(request: Request) -> Answer:
    try:
        check_database()
        return PAGES[request.page](request)
    except DBAPIError as error:
        if request.acts or not error.connection_invalidated:
            raise
        return PAGES[request.page](request)  # the server was restarted since: the pool has noticed now


def _message(line: str, status: HTTPStatus, request: Request) -> Answer:
    return Answer("message", {"line": line, "back": _back(request)}, status)


def _back(request: Request) -> tuple[str, ...] | None:
    """Return the page that a form was on, or is about: how it is called, its name, its argument; None for the list."""
    if request.page == "settle":
        return f"Back to case {request.path[0]}", "sagas_case", request.path[0]
    if request.page == "finding":
        return "Back to the review queue", "sagas_review"
    if request.page == "control":
        return f"Back to saga {request.path[0]}", "sagas_saga", request.path[0]
    return None


def _said_of(error: DBAPIError) -> str:
    if isinstance(error.orig, QueryCanceled):
        return f"The database took longer than {LONGEST} s to answer."
    # Only the class: the text may quote the address.
    return f"The database does not answer ({type(error.orig).__name__}); see to the server of SAGAJOBS_DATABASE_URL."


@cache
def check_database() -> None:
    """Raise `ConfigurationError` unless the database has our tables; once it has, it is not asked again."""
    check_tables(_impatient())


@cache
def _impatient() -> Any:
    """Return the database, with connections whose statements end after `LONGEST`: in this process all wait for them."""
    event.listen(root.database.engine, "connect", limit)
    return root.database


def limit(connection: Any, _record: Any) -> None:
    """Have a new connection end statements after `LONGEST`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", (f"{LONGEST}s",))
    connection.commit()


def _list(request: Request) -> Answer:
    return Answer("list", looking.saga_list(root.engine, request.arguments))


def _saga(request: Request) -> Answer:
    values = looking.one_saga(root.engine, request.path[0])
    return Answer("saga", values, saga=values["saga"]["id"])


def _health(request: Request) -> Answer:
    # Flower that hears none may itself be cut off from the broker, or wait before it connects again.
    workers = request.workers or workers_answering(root.app)
    return Answer(
        "health",
        looking.how_all_stands(root.engine, circuit=root.circuit(), quota=root.quota(), workers=workers),
    )


def _review(request: Request) -> Answer:
    return Answer("review", looking.queue(root.engine, request.arguments))


def _case(request: Request) -> Answer:
    return Answer("case", acting.prospects(root.engine, int(request.path[0])))


def _settle(request: Request) -> Answer:
    number, remedy = request.path
    if not request.acts:
        return Answer(see=("sagas_case", number))
    return Answer(see=("sagas_saga", acting.settle(root.engine, int(number), remedy, request.arguments, request.user)))


def _finding(request: Request) -> Answer:
    number = int(request.path[0])
    if not request.acts:
        return Answer("finding", looking.one_finding(root.engine, number))
    acting.settle_finding(root.engine, number, request.arguments, request.user)
    return Answer(see=("sagas_review",))


def _control(request: Request) -> Answer:
    saga_id, act = request.path
    if not request.acts:
        return Answer("control", acting.prospect(root.engine, saga_id, act))
    return Answer(see=("sagas_saga", acting.control(root.engine, saga_id, act, request.arguments, request.user)))


PAGES: Mapping[str, Callable[[Request], Answer]] = {
    "list": _list,
    "saga": _saga,
    "review": _review,
    "case": _case,
    "settle": _settle,
    "finding": _finding,
    "control": _control,
    "health": _health,
}
