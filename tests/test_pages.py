"""The pages say what is so: their links lead somewhere, their commands are taken, their code runs."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml
from celery.bin.celery import celery
from sqlalchemy import text

from sagajobs.cli import main
from sagajobs.saga.declaration import _OPTIONS, Step
from tests.support.sagas import forget

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

NOT_RUN = "<!-- not run: "


class Block(NamedTuple):
    """A block of code in a page; `run` is false where the page says why it is not run."""

    page: str
    language: str
    code: str
    run: bool


def _blocks(page: Path) -> list[Block]:
    found = re.finditer(r"^([^\n]*)\n```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(page.name, one[2], one[3], not one[1].startswith(NOT_RUN)) for one in found]


BLOCKS = [block for page in PAGES for block in _blocks(page)]

ELSEWHERE = {"README.md": "test_readme.py", "web.md": "web/test_guides.py", "testing.md": "kit/test_shipping.py"}
"""Pages whose Python is run by tests of their own."""


def _python(page: str) -> list[str]:
    return [block.code for block in BLOCKS if block.page == page and block.language == "python" and block.run]


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges name them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    seen: Counter[str] = Counter()
    anchors = set()
    for heading in re.findall(r"^#+ +(.*)$", prose, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        anchors.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return anchors


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_each_link_leads_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
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


def _commands() -> list[list[str]]:
    """Return each command line of ours in blocks that are no output and no Python."""
    lines = (line for block in BLOCKS if block.language in ("", "sh") for line in block.code.splitlines())
    found = (re.match(r"(?:\S*/)?((?:sagajobs|celery|make) .*)", line.strip()) for line in lines)
    written = [shlex.split(one[1], comments=True) for one in found if one is not None and "…" not in one[1]]
    return [list(itertools.takewhile(lambda word: word not in ("|", ">", "&", "&&"), line)) for line in written]


def test_each_command_is_taken():
    commands = _commands()
    assert len(commands) > 80
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for program, *arguments in commands:
        if program == "make":
            assert {one for one in arguments if "=" not in one} <= targets, arguments
        elif program == "celery":
            assert arguments[:2] == ["-A", "sagajobs"]
            _taken(celery, arguments)
        elif arguments != ["--version"]:
            _taken(main, arguments)


def _taken(program: click.Command, arguments: list[str]) -> None:
    """Have the options parsed and nothing done: `--help` comes before the doing, and after the parsing."""
    try:
        program.main([*arguments, "--help"], prog_name="program", standalone_mode=False)
    except click.UsageError as error:
        pytest.fail(f"{' '.join(arguments)}: {error.format_message()}")


def test_one_that_is_mistyped_would_be_noticed():
    with pytest.raises(pytest.fail.Exception, match="No such option"):
        _taken(main, ["sagas", "retry", "2", "--whyy", "so"])


def test_what_is_data_is_read_and_what_is_sql_is_understood(app_engine):
    known = {"", "sh", "text", "python", "json", "yaml", "sql"}
    assert {block.language for block in BLOCKS} <= known
    with app_engine.database.reading() as connection:
        for block in BLOCKS:
            if block.language == "json":
                assert json.loads(block.code)
            elif block.language == "yaml":
                assert yaml.safe_load(block.code)
            elif block.language == "sql":
                connection.execute(text("EXPLAIN " + block.code.replace(":", r"\:")))


def test_what_is_not_run_is_little_and_has_its_reason():
    left_out = [block.page for block in BLOCKS if not block.run]
    assert Counter(left_out) == {"writing-a-saga.md": 1, "design.md": 1}
    pages = {block.page for block in BLOCKS if block.language == "python" and block.run}
    assert pages == {*ELSEWHERE, "quickstart.md", "writing-a-saga.md", "monitoring.md"}


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


@pytest.mark.usefixtures("clean")
def test_writing_a_saga(monkeypatch, tmp_path, capsys, app_engine):
    monkeypatch.setenv("COURIER_BOOK", str(tmp_path / "courier.txt"))
    names: dict = {"__name__": "shipping"}
    before = set(app_engine.kinds)
    try:
        for code in _python("writing-a-saga.md"):
            exec(compile(code, "writing-a-saga.md", "exec"), names)  # noqa: S102 - that is the test
            _as_said(_said(code) if "DefinitionError" in code else [], capsys.readouterr().out)
    finally:
        forget(app_engine, *(set(app_engine.kinds) - before))


@pytest.mark.usefixtures("clean")
def test_monitoring(app_engine, booking, simulator, capsys):
    from sagajobs import AppointmentCreationSaga

    names: dict = {"__name__": "monitoring"}
    [code] = _python("monitoring.md")
    exec(compile(code, "monitoring.md", "exec"), names)  # noqa: S102 - that is the test
    try:
        AppointmentCreationSaga.run(booking())
    finally:
        app_engine.watchers.leave(app_engine.watchers._watchers[-1])
    printed = capsys.readouterr().out
    assert re.search(r"^step appointment_creation.book_calcom: \d+\.\d+ s$", printed, re.MULTILINE)


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
