"""The pages say what is so: their links lead somewhere, their code runs, their outputs are printed; their commands are
tests/test_shell_lines.py's."""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import logging
import re
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs import AppointmentCreationSaga, PermanentError, SagaException
from sagajobs.monitoring import logs
from sagajobs.saga.bus import document
from sagajobs.saga.declaration import _OPTIONS, Step
from sagajobs.saga.outbox import Happening
from sagajobs.testing import every_undo_runs_twice
from sagajobs.testing.broker import HandBroker
from tests.cli.inprocess import sagajobs
from tests.deploy.files import compose
from tests.support import promtool
from tests.support.documents import BLOCKS, PAGES, ROOT, assert_shown, outputs, prose
from tests.support.sagas import forget, record
from tests.support.tables import change

ELSEWHERE = {"README.md": "test_readme.py", "web.md": "web/test_guides.py", "testing.md": "kit/test_shipping.py"}
"""Pages whose Python is run by tests of their own."""


def _python(page: str) -> list[str]:
    return [block.code for block in BLOCKS if block.page == page and block.language == "python"]


def _all(language: str) -> list[str]:
    return [block.code for block in BLOCKS if block.language == language]


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges name them."""
    seen: Counter[str] = Counter()
    anchors = set()
    for heading in re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        anchors.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return anchors


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_each_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), link


def test_each_page_of_docs_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\]\(([\w./-]+)\)", index))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    pages |= {f"reference/{page.name}" for page in (ROOT / "docs" / "reference").glob("*.rst")}
    assert pages <= listed


def test_each_block_says_what_it_is():
    """Each of these is looked at by some test; a block of another kind, or of none, would be looked at by nobody."""
    fences = [
        line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("```")
    ]
    assert len(fences) == 2 * len(BLOCKS)
    assert {block.language for block in BLOCKS} == {"sh", "text", "python", "json", "yaml", "sql", "dockerfile"}


ROLE = """
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sagajobs') THEN CREATE ROLE sagajobs; END IF;
    END $$
"""


def test_what_is_sql_is_understood(app_engine):
    with app_engine.database.engine.connect() as connection:
        connection.execute(text(ROLE))
        for code in _all("sql"):
            look = "EXPLAIN " if code.startswith("SELECT") else ""
            connection.execute(text(look + code.replace(":", r"\:")))
        connection.rollback()


def test_an_event_is_what_the_bus_makes_of_one():
    [code] = _all("json")
    shown = json.loads(code)
    number, at, data = int(shown["id"]), datetime.fromisoformat(shown["time"]), shown["data"]
    assert shown == document(Happening(number=number, at=at, trace=None, **data))


def test_prometheus_takes_its_configuration(tmp_path):
    [code] = _all("yaml")
    (tmp_path / "prometheus.yml").write_text(code)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    done = promtool.run("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_that_an_own_one_is_built_on_is_ours():
    [code] = _all("dockerfile")
    assert (
        re.fullmatch(r"FROM (\S+)\nCOPY celeryconfig\.py shipping\.py \./\n", code)[1]
        == compose()["services"]["worker"]["image"]
    )


COMPARED = {
    "README.md": 1,  # cli/test_demo.py
    "quickstart.md": 5,  # here; what `up` says in cli/test_up.py
    "operating.md": 3,
    "monitoring.md": 1,
    "testing.md": 1,
}
"""How many outputs of a page are held against what is printed."""

NOT_COMPARED = {
    "README.md": 1,  # a drawing
    "design.md": 1,  # a drawing of the packages; that each exists is tried below, who knows whom by import-linter
    "cli.md": 2,  # from the help texts, with all of that page (cli/test_reference.py)
}
"""How many are not, and why."""


def test_what_is_shown_is_compared_or_has_its_reason():
    shown = Counter(block.page for block in BLOCKS if block.language == "text")
    assert shown == Counter(COMPARED) + Counter(NOT_COMPARED)


@pytest.mark.parametrize(
    "wrong", ["book_calcom exploded 9", "+0.427 s  step_failed  book_calcom  1  -", "waiting for a person: none"]
)
def test_a_line_that_is_not_printed_would_be_noticed(wrong):
    printed = "+0.5 s  step_executing  book_calcom  1  -\nwaiting for a person: 2\n"
    assert_shown(printed.replace("0.5", "12").replace("  ", "    "), printed)
    for lines in ([wrong, *printed.splitlines()], [printed.splitlines()[0], wrong], ["…", wrong, "…"]):
        with pytest.raises(AssertionError):
            assert_shown("\n".join(lines), printed)
    with pytest.raises(AssertionError, match="not shown"):
        assert_shown(printed.splitlines()[0], printed)


def test_the_packages_that_are_drawn_exist():
    [drawing] = outputs("design.md")
    drawn = set(re.findall(r"sagajobs\.\w+", drawing))
    assert len(drawn) > 10
    assert [name for name in drawn if importlib.util.find_spec(name) is None] == []


def test_all_python_is_run():
    """By this module, or by that of `ELSEWHERE`."""
    pages = {block.page for block in BLOCKS if block.language == "python"}
    assert pages == {*ELSEWHERE, "quickstart.md", "writing-a-saga.md", "monitoring.md", "design.md"}


def _said(code: str) -> list[str]:
    """Return what a block's comments say that its lines print; `…` stands for anything."""
    return re.findall(r"print\(.*\)  # (.*)$", code, re.MULTILINE)


def _as_said(wanted: list[str], printed: str) -> None:
    lines = [line for line in printed.splitlines() if line]
    assert len(lines) >= len(wanted)
    for line, pattern in zip(lines, wanted, strict=False):
        assert re.fullmatch(re.escape(pattern).replace("…", ".*"), line), line


@pytest.mark.usefixtures("clean", "worker")
def test_the_quickstart(simulator, capsys):
    names: dict = {"__name__": "quickstart"}
    blocks = _python("quickstart.md")
    [fault] = re.findall(r"curl -d '(.*?)'", (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8"))
    for number, code in enumerate(blocks):
        if number == len(blocks) - 1:
            simulator.fault(**json.loads(fault))
        exec(compile(code, "quickstart.md", "exec"), names)  # noqa: S102 - that is the test
        _as_said(_said(code), capsys.readouterr().out)
    assert len(simulator.standing()) == 2
    _up, *histories, settled = outputs("quickstart.md")
    for saga, shown in zip(("booked", "refused", "doubtful"), histories, strict=True):
        assert_shown(shown, sagajobs("sagas", "show", names[saga].id).out)
    assert_shown(settled, sagajobs("invariants").out + sagajobs("sagas", "stats").out)


@pytest.fixture
def shipping(app_engine, clean, monkeypatch, tmp_path) -> Iterator[dict[str, Any]]:
    """The names of the module that docs/writing-a-saga.md begins with, whose saga is known; nobody is told of any."""
    monkeypatch.setenv("COURIER_BOOK", str(tmp_path / "courier.txt"))
    monkeypatch.setattr(app_engine, "publisher", None)
    names: dict[str, Any] = {"__name__": "shipping"}
    exec(compile(_python("writing-a-saga.md")[0], "writing-a-saga.md", "exec"), names)  # noqa: S102 - the page's
    yield names
    change(app_engine, "DELETE FROM sagas")
    forget(app_engine, "shipping")


def _fails(_saga, _order):
    raise PermanentError("it does not do what it is asked for")


@pytest.mark.usefixtures("impatient_creation")
def test_operating(app_engine, booking, shipping):
    kind = shipping["ShippingSaga"]
    stages = [kind.definition.step(name) for name in ("reserve_stock", "order_courier")]
    stages[1].undo.method = _fails
    taken = booking()
    for request in (booking(), taken):
        AppointmentCreationSaga.run(request)
    with pytest.raises(SagaException, match="SlotTaken"):
        AppointmentCreationSaga.run(taken)
    asked, standing = (record(kind, {"order_id": number}) for number in (1, 2))
    for handle in (asked, standing):
        for stage in stages:
            app_engine.executor.forward(kind, stage, handle.id)
        assert sagajobs("sagas", "cancel", handle.id, "--why", "the customer rang").status == 0
    app_engine.drive(kind, asked.id)
    ages = "created_at = created_at - interval '146 s', next_at = next_at - interval '2 min'"
    change(app_engine, f"UPDATE sagas SET {ages}")
    stats, review, explain = outputs("operating.md")
    assert_shown(stats, sagajobs("sagas", "stats").out)
    assert_shown(review, sagajobs("sagas", "review").out)
    assert_shown(explain, sagajobs("sagas", "explain", str(app_engine.review.of(asked.id).number)).out)


def test_testing(saga_case, shipping):
    kind, courier = shipping["ShippingSaga"], shipping["courier"]
    undo = kind.definition.step("order_courier").undo
    cancels = undo.method

    def bears_no_repetition(saga, order):
        return cancels(saga, order) if courier.standing(order["order"]) else _fails(saga, order)

    undo.method = bears_no_repetition
    with pytest.raises(AssertionError) as told:
        every_undo_runs_twice(saga_case(kind, request=lambda n: {"order_id": n}, standing=courier.standing))
    [shown] = outputs("testing.md")
    assert_shown(shown.replace(":\nit is", ": it is"), "".join(traceback.format_exception_only(told.value)))


@contextmanager
def _carried_out(engine) -> Iterator[None]:
    """Have messages delivered meanwhile, in this process: it knows the saga that a page has just declared."""
    broker, over = engine.publisher, threading.Event()

    def deliver() -> None:
        while not over.wait(0.05):
            broker.drain()

    with ThreadPoolExecutor(1) as pool:
        delivering = pool.submit(deliver)
        try:
            yield
        finally:
            over.set()
        delivering.result()


@pytest.mark.usefixtures("clean")
def test_writing_a_saga(monkeypatch, tmp_path, capsys, app_engine):
    monkeypatch.setenv("COURIER_BOOK", str(tmp_path / "courier.txt"))
    monkeypatch.setattr(app_engine, "publisher", HandBroker(app_engine))
    before = set(app_engine.kinds)
    try:
        with Session(app_engine.database.engine) as session, _carried_out(app_engine):
            names: dict = {"__name__": "shipping", "session": session}
            for code in _python("writing-a-saga.md"):
                exec(compile(code, "writing-a-saga.md", "exec"), names)  # noqa: S102 - that is the test
                _as_said(_said(code) if "DefinitionError" in code else [], capsys.readouterr().out)
        assert names["handle"].status() == "completed"
        forget(app_engine, "parcel_return")
        [code] = _python("design.md")
        versions = {"ShippingSaga": names["Return"], "ShippingSagaV1": names["ReturnV1"]}
        exec(code, {"engine": app_engine, "services": None, **versions})  # noqa: S102 - that is the test
    finally:
        forget(app_engine, *(set(app_engine.kinds) - before))


@pytest.mark.usefixtures("clean")
def test_monitoring(app_engine, booking, simulator, capsys):
    names: dict = {"__name__": "monitoring"}
    [code] = _python("monitoring.md")
    exec(compile(code, "monitoring.md", "exec"), names)  # noqa: S102 - that is the test
    try:
        AppointmentCreationSaga.run(booking())
    finally:
        app_engine.watchers.leave(app_engine.watchers._watchers[-1])
    printed = capsys.readouterr().out
    assert re.search(r"^step appointment_creation.book_calcom: \d+\.\d+ s$", printed, re.MULTILINE)


def test_a_line_of_the_log():
    [shown] = outputs("monitoring.md")
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(logging.Formatter(logs.FORMAT))
    logger = logging.getLogger("a log of these tests")
    logger.addHandler(handler)
    logs.place(logger)
    record = logger.makeRecord("urllib3.connectionpool", logging.WARNING, __file__, 1, "Retrying", (), None)
    record.processName = "ForkPoolWorker-1"
    with logs.within("saga=0b9c…", "step=book_calcom"), logs.within("trace=4bf9…"):
        logger.handle(record)
    assert_shown(shown, said.getvalue())


def test_the_options_of_a_step_are_those_of_the_code():
    page = (ROOT / "docs" / "writing-a-saga.md").read_text(encoding="utf-8")
    table = page.partition("## Options of a step")[2].partition("What hangs on a step")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", table, re.MULTILINE))
    known = inspect.signature(Step).parameters
    options = {name: known[name].default for name in _OPTIONS}
    from sagajobs import RetryPolicy

    assert told == {name: "RetryPolicy()" if value == RetryPolicy() else repr(value) for name, value in options.items()}


def test_what_the_declaration_refuses_is_what_the_code_says():
    page = (ROOT / "docs" / "writing-a-saga.md").read_text(encoding="utf-8")
    table = page.partition("## What the declaration refuses")[2].partition("## Test it")[0]
    rows = [row.partition(" | ")[0] for row in re.findall(r"^\| (`.*) \|$", table, re.MULTILINE)]
    code = "".join(
        (ROOT / "sagajobs" / "saga" / name).read_text(encoding="utf-8")
        for name in ("declaration.py", "shape.py", "definition.py")
    )
    assert len(rows) > 10
    for row in rows:
        for words in re.findall(r"`(.+?)`", row):
            assert words in code, words


def test_each_sweep_is_explained_with_its_interval(app_engine):
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    table = page.partition("## Sweeps")[2].partition("## Switches")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| (likewise|\d+ \w+)", table, re.MULTILINE))
    assert set(told) == set(app_engine.sweeps)
    from sagajobs.runtime.settings import Settings

    fields, units = Settings.model_fields, {"s": 1, "min": 60, "h": 3600}
    by_setting = {"recover": "sweep_interval", "events": "sweep_interval", "reconcile": "reconcile_interval"}
    for name, sweep in app_engine.sweeps.items():
        number, _, unit = told["recover" if told[name] == "likewise" else name].partition(" ")
        every = fields[by_setting[name]].default if name in by_setting else sweep.every
        assert int(number) * units[unit] == every, name
