"""What the pages have a reader type is taken as it stands: each program in a block has its check here, or fails.

Our own programs parse what is written and do nothing. Of others' no line is run: what can be wrong about it without a
machine to try it on (verbs, options, names of services, units, extras, files) is held against a short table, or against
the files of this repository that have those names.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery
from flower.command import is_flower_option
from opentelemetry.sdk import environment_variables

from sagajobs.cli import main
from sagajobs.runtime.settings import BY_FILE, Settings, variable_of
from tests.deploy.files import UNITS, compose, unit, variables
from tests.support.documents import BLOCKS, PAGES, ROOT, prose

BETWEEN = {"|", "||", "&&", "&", ";"}

SET = {variable_of(name) for name in Settings.model_fields}
SET |= {f"{variable_of(name)}_FILE" for name in BY_FILE} | set(variables())
SET |= {name for name in dir(environment_variables) if name.startswith("OTEL_")}
"""Variables that may stand before a command, or alone."""

COMPOSE = {
    "build": set(),
    "exec": set(),
    "ps": set(),
    "run": {"--rm", "--no-deps"},
    "up": {"--build", "-d", "--no-deps", "--force-recreate", "--scale"},
}
"""Verbs of `docker compose` that are used, each with those of its options."""

SYSTEMCTL = {"daemon-reload", "enable", "restart"}

OPTIONS = {
    "cp": set(),
    "curl": {"-d"},
    "echo": set(),
    "install": {"-d", "-m"},
    "jq": {"-r"},
    "systemctl": {"--now"},
    "tail": {"-n"},
    "useradd": {"--system", "--home-dir", "--shell"},
}
"""Options that are used of programs that are not ours; where one is installed, its `--help` must know them."""


def _split(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line, without redirections."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    command: list[str] = []
    for word in words:
        if word in BETWEEN:
            yield command
            command = []
        elif word == ">":
            next(words)
        else:
            command.append(word)
    if command:
        yield command


IN_PROSE = re.compile(
    r"`((?:[A-Z_]+=\S+ )?(?:\S*/)?(?:sagajobs|celery -A|make|python -m|pip|docker|systemctl|cp|useradd)\s[^`]+)`"
)
"""A line that is to be typed and stands in a sentence or a table."""


def _typed() -> Iterator[tuple[str, str]]:
    """Yield each line that is to be typed, and its page."""
    for block in BLOCKS:
        if block.language == "sh":
            for line in block.code.replace("\\\n", " ").splitlines():
                yield block.page, line
                if behind := re.search(r"# (\.venv/bin/[^;]+)", line):  # the same by hand, or with other figures
                    yield block.page, behind[1]
    for page in PAGES:
        for line in IN_PROSE.findall(prose(page)):
            yield page.name, " ".join(line.split()).removesuffix("…")


def _check(line: str) -> None:
    for words in _split(line):
        _check_command(words)


def _check_command(words: list[str]) -> None:
    while words and (variable := re.match(r"([A-Z][A-Z0-9_]*)=", words[0])):
        assert variable[1] in SET, f"{variable[1]} means nothing"
        words = words[1:]
    if words:
        program, *arguments = words
        name = program if program in CHECKS else re.sub(r"^python3\.\d+$", "python", Path(program).name)
        assert name in CHECKS, f"{name}: say in CHECKS how it is checked"
        CHECKS[name](arguments)


def _taken(program: click.Command, arguments: list[str]) -> None:
    """Have the options parsed and nothing done: `--help` comes before the doing, and after the parsing."""
    try:
        program.main([*arguments, "--help"], prog_name="program", standalone_mode=False)
    except click.UsageError as error:
        raise AssertionError(f"{' '.join(arguments)}: {error.format_message()}") from error


def _sagajobs(arguments: list[str]) -> None:
    if arguments != ["--version"]:
        _taken(main, arguments)


def _celery(arguments: list[str]) -> None:
    assert arguments[:2] == ["-A", "sagajobs"]
    _taken(celery, arguments)
    if arguments[2] == "flower":  # it takes any option, and asks Flower later
        assert all(map(is_flower_option, arguments[3:])), arguments


def _make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for one in arguments:
        name, equals, _ = one.partition("=")
        assert re.search(rf"^{re.escape(name)}{' *[?:]?=' if equals else ':'}", makefile, re.MULTILINE), f"make {one}"


def _python(arguments: list[str]) -> None:
    if not arguments:
        return
    dash, module, *rest = arguments
    assert dash == "-m"
    found = importlib.util.find_spec(module)
    assert found is not None, f"no module {module}"
    if found.submodule_search_locations:
        found = importlib.util.find_spec(f"{module}.__main__")
    source = Path(found.origin).read_text(encoding="utf-8")
    for one in (word for word in rest if word.startswith("-")):
        assert f'"{one}"' in source, f"{module} has no {one}"


def _pytest(arguments: list[str]) -> None:
    paths, _, words = " ".join(arguments).partition(" -k ")
    assert not re.search(r"(^| )-", paths), arguments
    tests = []
    for path in map(ROOT.joinpath, paths.split()):
        assert path.exists(), path
        tests += [path] if path.is_file() else path.glob("**/*.py")
    assert any(words in one.read_text(encoding="utf-8") for one in tests), f"-k {words}"


def _pip(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    verb, *wanted = arguments
    assert verb == "install", verb
    for one in wanted:
        found = re.fullmatch(r"(\.|[\w-]+)(?:\[([\w,-]+)\])?", one)
        assert found is not None, one
        assert found[1] in (".", project["name"]), one
        assert set(filter(None, (found[2] or "").split(","))) <= set(project["optional-dependencies"]), one


def _docker(arguments: list[str]) -> None:
    services = compose()["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    program, *rest = arguments
    assert program == "compose", program
    while rest and rest[0] == "--profile":
        assert rest[1] in profiles, rest[1]
        rest = rest[2:]
    if not rest:
        return  # a sentence that names the program
    verb, *rest = rest
    assert verb in COMPOSE, f"docker compose {verb}"
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        assert option in COMPOSE[verb], f"docker compose {verb} {option}"
        if option == "--scale":
            assert rest.pop(0).partition("=")[0] in services
    named = rest[:1] if verb in ("run", "exec") else rest
    assert set(named) <= set(services), named
    if verb in ("run", "exec"):
        assert named
        _check_command(rest[1:])


def _others(program: str, arguments: list[str]) -> list[str]:
    """Check the options of a program that is not ours, and return its other arguments."""
    options = {one for one in arguments if one.startswith("-")}
    assert options <= OPTIONS[program], f"{program}: {options - OPTIONS[program]}"
    return [one for one in arguments if one not in options]


def _systemctl(arguments: list[str]) -> None:
    verb, *units = _others("systemctl", arguments)
    assert verb in SYSTEMCTL, f"systemctl {verb}"
    assert bool(units) == (verb != "daemon-reload")
    for one in units:
        assert re.sub(r"@[\d*]+$", "@", one) in {path.stem for path in UNITS}, one


def _useradd(arguments: list[str]) -> None:
    *_, login = _others("useradd", arguments)
    assert {dict(unit(path))["User"] for path in UNITS} == {login}


def _cp(arguments: list[str]) -> None:
    *sources, _ = _others("cp", arguments)
    for one in sources:
        assert list(ROOT.glob(one)), one


def _curl(arguments: list[str]) -> None:
    data, url = _others("curl", arguments)
    assert json.loads(data)
    assert re.fullmatch(r"http://127\.0\.0\.1:(?:\d+|PORT)/_simulator/(?:faults|host/cancel)", url), url


def _jq(arguments: list[str]) -> None:
    (program,) = _others("jq", arguments)
    if jq := shutil.which("jq"):
        done = subprocess.run([jq, program], input="", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def _script(arguments: list[str]) -> None:
    assert arguments == []


CHECKS: dict[str, Callable[[list[str]], object]] = {
    "sagajobs": _sagajobs,
    "celery": _celery,
    "make": _make,
    "python": _python,
    "pytest": _pytest,
    "pip": _pip,
    "docker": _docker,
    "systemctl": _systemctl,
    "useradd": _useradd,
    "cp": _cp,
    "curl": _curl,
    "jq": _jq,
    "deploy/secrets.sh": _script,
    **{name: lambda arguments, name=name: _others(name, arguments) for name in ("echo", "install", "tail")},
}
"""How each program is checked that a block has."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_line_is_taken(page, capsys):
    for name, line in _typed():
        if name == page.name:
            _check(line)
    capsys.readouterr()


def test_there_are_those_that_there_should_be():
    programs = {Path(words[0]).name for _, line in _typed() for words in _split(line)}
    assert len([line for _, line in _typed()]) > 150
    assert {"sagajobs", "celery", "make", "docker", "systemctl", "useradd", "pip", "curl", "jq"} <= programs


@pytest.mark.parametrize("program", [one for one in sorted(OPTIONS) if OPTIONS[one]])
def test_the_options_are_those_of_the_program(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not on this machine")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    for option in OPTIONS[program]:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", done.stdout + done.stderr), option


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('sagajobs sagas retry 2 --whyy "so"', "--whyy"),
        ("celery -A sagajobs worker --without-gosip", "--without-gosip"),
        ("celery -A sagajobs flower --adress=0.0.0.0", "--adress"),
        ("make tets", "tets"),
        ("make CHAOS_SECOND=6 chaos", "CHAOS_SECOND="),
        (".venv/bin/python -m benchmarks.quotas", "quotas"),
        (".venv/bin/python -m benchmarks.quota --booking 300", "--booking"),
        (".venv/bin/pytest tests/saga/test_ran.py", "test_ran"),
        (".venv/bin/pytest tests/kit -k every_suffix", "every_suffix"),
        ("pip install 'sagajobs[otle]'", "otle"),
        ("docker compose upp --build", "upp"),
        ("docker compose up --biuld", "--biuld"),
        ("docker compose up -d flowers", "flowers"),
        ("docker compose --profile rabbit up", "rabbit"),
        ("docker compose exec worker sagajobs sagas lst", "lst"),
        ("BROKERS=rabbitmq docker compose up -d", "BROKERS"),
        ("systemctl enabel --now sagajobs-beat", "enabel"),
        ("systemctl enable --now sagajobs-beet", "sagajobs-beet"),
        ("useradd --sistem sagajobs", "--sistem"),
        ("useradd --system sagajob", "sagajob"),
        ("cp celeryconf.py /etc/sagajobs/", "celeryconf.py"),
        ("SAGAJOBS_SENTRY_DNS=https://x", "SAGAJOBS_SENTRY_DNS"),
        ("make help && frobnicate", "frobnicate"),
    ],
)
def test_one_that_is_mistyped_would_be_noticed(line, wrong):
    with pytest.raises(AssertionError, match=re.escape(wrong)):
        _check(line)
