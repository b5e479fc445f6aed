"""What Flower asks us: a thin layer that knows HTTP and Flower, and has `pages` do the rest in a thread."""

from __future__ import annotations

import asyncio
import importlib
import logging
from base64 import b64decode
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any

from flower.views import BaseHandler  # type: ignore[import-untyped]
from flower.views.monitor import Metrics  # type: ignore[import-untyped]
from tornado.template import BaseLoader, Loader
from tornado.web import HTTPError, RequestHandler, StaticFileHandler, authenticated, url

from sagajobs.flower.tab import is_ours

_log = logging.getLogger(__name__)

_HERE = Path(__file__).parent

_OURS = "sagas/"
"""How the names of our templates begin; all others are Flower's."""

NO_LOGIN = (
    "This Flower has no login, so nothing can be changed here. Start it with --basic-auth=NAME:PASSWORD or another of "
    "its logins, or use the command line: sagajobs sagas --help"
)

READ_ONLY = "This Flower was started with --read-only, so nothing can be changed here."

_SHOWN_TASKS = 50
"""Celery tasks of a saga that its page links to."""

_REMEMBERED = 20_000
"""Tasks of all that Flower remembers, the newest, among which they are looked for: some 30 ms of its event loop."""


class _Templates(Loader):
    """Flower's templates and ours, which extend them."""

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """Return where a template is; see Tornado."""
        return str(_HERE / "templates" / name) if name.startswith(_OURS) else super().resolve_path(name, parent_path)


class Page(BaseHandler):  # type: ignore[misc]  # Flower has no types
    """A page, or an act."""

    def initialize(self, page: str) -> None:
        """Take the page's name, as in `pages.PAGES`."""
        self._page = page

    def create_template_loader(self, template_path: str) -> BaseLoader:
        """Return the loader of our pages; Flower's own have one of their own, kept by another name."""
        del template_path
        return _Templates(super().get_template_path())

    def get_template_path(self) -> str:
        """Return the name by which Tornado keeps our loader apart from Flower's."""
        return str(_HERE)

    def check_xsrf_cookie(self) -> None:
        """Refuse what did not come from a form of ours, or from anybody where there is no login.

        Flower compares origins; with basic authentication it asks for no token, and a client that says nothing of its
        origin passes. We ask for the token in any case.
        """
        refusal = self._refusal()
        if refusal is not None:
            raise HTTPError(HTTPStatus.FORBIDDEN, refusal)
        super().check_xsrf_cookie()
        RequestHandler.check_xsrf_cookie(self)

    @authenticated
    async def get(self, *path: str) -> None:
        """Show the page."""
        arguments = {name: self.get_query_argument(name, "") for name in self.request.query_arguments}
        await self._answer(path, arguments, acts=False)

    @authenticated
    async def post(self, *path: str) -> None:
        """Do it, and go where it can be seen."""
        self.check_xsrf_cookie()  # before Flower 2.2 nobody else asks for it
        arguments = {name: self.get_body_argument(name, "") for name in self.request.body_arguments}
        await self._answer(path, arguments, acts=True)

    async def _answer(self, path: tuple[str, ...], arguments: dict[str, str], *, acts: bool) -> None:
        if not is_ours(self.application):
            raise HTTPError(HTTPStatus.NOT_FOUND)
        pages = importlib.import_module("sagajobs.flower.pages")
        request = pages.Request(
            page=self._page,
            path=path,
            arguments=arguments,
            acts=acts,
            user=self._user(),
            refusal=self._refusal(),
            workers=_workers(self.application),
        )
        answer = await pages.in_time(request)
        if answer.see is not None:
            self.redirect(self.reverse_url(*answer.see), status=HTTPStatus.SEE_OTHER)
            return
        self.set_status(answer.status)
        # What a person is told of others is for nobody's cache; nor is any of it for another site's frame.
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Frame-Options", "DENY")
        tasks = self._tasks(answer.saga) if answer.saga is not None else []
        self.render(f"{_OURS}{answer.template}.html", request=request, tasks=tasks, **answer.values)

    def _refusal(self) -> str | None:
        """Return why nothing may be changed here, None if it may."""
        options = self.application.options
        if not (options.basic_auth or options.auth):
            return NO_LOGIN
        return READ_ONLY if getattr(options, "read_only", False) else None

    def _user(self) -> str:
        """Return the name that somebody has logged in by, empty without a login."""
        user = self.current_user
        if isinstance(user, str):
            return user
        kind, _, credentials = self.request.headers.get("Authorization", "").partition(" ")
        if not self.application.options.basic_auth or kind != "Basic":
            return ""
        return b64decode(credentials).decode(errors="replace").partition(":")[0]

    def _tasks(self, saga_id: str) -> list[dict[str, Any]]:
        """Return the Celery tasks of a saga that Flower has seen, the newest first; of its memory, so here."""
        found = []
        for task_id, task in islice(self.application.events.state.tasks_by_time(), _REMEMBERED):
            if saga_id in str(task.kwargs):
                found.append({"id": task_id, "name": task.name, "state": task.state})
                if len(found) == _SHOWN_TASKS:
                    break
        return found


def _workers(flower: Any) -> int:
    """Return how many workers Flower hears: of its memory, so here."""
    return sum(1 for _ in flower.events.state.alive_workers())


class SagaMetrics(Metrics):  # type: ignore[misc]  # Flower has no types
    """Flower's own metrics and, behind them, ours. Flower asks nobody for a login here, so nothing private is told."""

    async def get(self) -> None:
        """Tell both; without the database in time, Flower's own and that it is away."""
        await super().get()
        if not is_ours(self.application):
            return
        scraping = importlib.import_module("sagajobs.flower.scraping")
        found = None
        asked = asyncio.wrap_future(scraping.scraper().ask())
        asked.add_done_callback(_heard)
        await asyncio.wait([asked], timeout=scraping.LONGEST)
        if not asked.done():
            _log.warning("/metrics says nothing of sagas: the database takes longer than %.0f s", scraping.LONGEST)
        elif error := asked.exception():
            # Only the class: the text may quote an address.
            _log.warning("/metrics says nothing of sagas: the database does not answer (%s)", type(error).__name__)
        else:
            found = asked.result()
        self.write(scraping.exposition(found, workers=_workers(self.application)))


def _heard(answer: asyncio.Future[Any]) -> None:
    """Take note of an error that comes too late, or asyncio would log its text."""
    if not answer.cancelled():
        answer.exception()


METRICS = url(r"/metrics", SagaMetrics)
"""In the place of Flower's own."""

ROUTES = [
    url(r"/sagas", Page, {"page": "list"}, name="sagas"),
    url(r"/sagas/review", Page, {"page": "review"}, name="sagas_review"),
    url(r"/sagas/review/([0-9]{1,18})", Page, {"page": "case"}, name="sagas_case"),
    url(
        r"/sagas/review/([0-9]{1,18})/(retry|skip|mark_done|mark_undone|abandon)",
        Page,
        {"page": "settle"},
        name="sagas_settle",
    ),
    url(r"/sagas/findings/([0-9]{1,18})", Page, {"page": "finding"}, name="sagas_finding"),
    url(r"/sagas/health", Page, {"page": "health"}, name="sagas_health"),
    url(r"/sagas/static/(.*)", StaticFileHandler, {"path": str(_HERE / "static")}, name="sagas_static"),
    url(r"/sagas/([0-9a-fA-F-]{8,36})", Page, {"page": "saga"}, name="sagas_saga"),
    url(r"/sagas/([0-9a-fA-F-]{36})/(pause|resume|cancel)", Page, {"page": "control"}, name="sagas_control"),
]
"""Our pages, the list's first."""
