"""The image, as far as it can be seen without Docker, and the wheel that it relies on."""

from __future__ import annotations

import configparser
import fnmatch
import re
import subprocess
import sys
import zipfile

import pytest
from dockerfile_parse import DockerfileParser

from tests.deploy.files import OURS, ROOT, compose

LINES = [
    (line["instruction"], line["value"])
    for line in DockerfileParser(str(ROOT / "Dockerfile")).structure
    if line["instruction"] != "COMMENT"
]
FROM = [number for number, (instruction, _) in enumerate(LINES) if instruction == "FROM"]
RUNTIME = LINES[FROM[-1] :]


def test_the_last_user_is_an_ordinary_one_and_the_services_run_as_him():
    (user,) = (value for instruction, value in RUNTIME if instruction == "USER")
    assert user == "10001:10001"
    assert {compose()["services"][name]["user"] for name in OURS} == {user}
    after = [instruction for instruction, _ in RUNTIME[RUNTIME.index(("USER", user)) :]]
    assert not {"RUN", "COPY", "ADD"} & set(after)


def test_nothing_is_fetched_by_address_and_nothing_secret_is_baked_in():
    for instruction, value in LINES:
        assert instruction != "ADD"
        assert not (instruction == "COPY" and "://" in value)
        assert instruction != "ARG"
        if instruction == "ENV":
            assert not re.search(r"PASS|SECRET|KEY|TOKEN|DSN|SAGAJOBS_", value)


def test_it_is_built_in_two_stages_on_the_same_python_and_the_second_has_no_tools():
    first, second = (LINES[number][1] for number in FROM)
    assert first == "python:3.12-bookworm AS build"
    assert second == "python:3.12-slim-bookworm"
    assert not any(instruction == "RUN" and re.search(r"\bpip\b|apt", value) for instruction, value in RUNTIME)


def test_celery_gets_its_signal_itself():
    said = dict(RUNTIME)
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert said["CMD"].startswith('["celery",')  # no shell between
    assert "PYTHONUNBUFFERED=1" in said["ENV"]
    assert not {"ENTRYPOINT", "HEALTHCHECK"} & set(said)  # one image, several programs: health is each service's own


def test_what_it_copies_is_there_and_nothing_else_is_sent():
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    copied = {
        source.removeprefix("./")
        for instruction, value in LINES
        if instruction == "COPY" and not value.startswith("--from")
        for source in value.split()[:-1]
    }
    assert copied == set(let_in)
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch.fnmatch(secret, one) for secret in (".env", "deploy/secrets/x") for one in let_in)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_has_every_file_of_the_package(wheel):
    in_tree = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sagajobs").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel.namelist() if name.startswith("sagajobs/")} == in_tree
    for needed in ("migrations/versions/0001_*.py", "flower/templates/sagas/*.html", "flower/static/*", "py.typed"):
        assert fnmatch.filter(in_tree, f"sagajobs/{needed}"), needed


def test_the_wheel_has_its_entry_points(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    found = configparser.ConfigParser()
    found.read_string(wheel.read(name).decode())
    assert found["console_scripts"]["sagajobs"] == "sagajobs.cli:main"
    assert found["celery.commands"]["sagas"] == "sagajobs.plugin:sagas"
