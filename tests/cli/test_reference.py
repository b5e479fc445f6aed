"""Every command, as the tree of commands has it: its help, its JSON, its page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sagajobs.cli import main
from sagajobs.cli.exits import MEANINGS, Exit
from sagajobs.cli.sagas import sagas
from tests import reference

NO_DATA = {"up", "webhooks", "simulator", "completion"}
"""Servers, and a script: they print nothing that a program would read."""

LEAVES = dict(reference.leaves(main, ()))


def test_every_command_says_what_it_does_shows_how_and_speaks_json():
    assert len(LEAVES) > 25
    for path, command in LEAVES.items():
        first = (command.help or "").partition("\n")[0]
        assert first.endswith("."), path
        assert "Examples:" in (command.epilog or ""), path
        assert re.search(rf"^ *(?:[a-z]+ +)?sagajobs {' '.join(path)}\b", command.epilog, re.MULTILINE), path
        options = {name for one in command.params for name in one.opts}
        assert ("--json" in options) == (path[-1] not in NO_DATA), path
        for one in command.params:
            assert not isinstance(one, click.Option) or one.help, (path, one.name)


def test_help_needs_no_right_setting_and_no_server(tmp_path):
    home = tmp_path / "home"
    wrong = {"SAGAJOBS_STALL_AFTER": "soon", "SAGAJOBS_NONSENSE": "1", "SAGAJOBS_HOME": str(home)}
    asked = [sys.executable, "-m", "tests.cli.helps"]
    done = subprocess.run(asked, env={**os.environ, **wrong}, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert not said["loaded"], "nothing was read"
    assert not home.exists(), "nothing was started"
    told = said["told"]
    assert set(told) >= {" ".join(path) for path in LEAVES}
    for path, (status, out, err) in told.items():
        assert (status, err) == (0, ""), path
        assert out.startswith(f"Usage: sagajobs {path}".rstrip()), path
    for name in main.list_commands(click.Context(main)):
        assert re.search(rf"^  {name} +\S", told[""][1], re.MULTILINE)


def test_both_programs_take_every_command():
    context = click.Context(main)
    for group in (main, sagas):
        for path in LEAVES:
            name = next(word for word in path if word != "sagas")
            assert group.get_command(context, name) is not None or name == "completion", (group.name, path)
        assert group.get_command(context, "nonsense") is None


def test_every_exit_status_has_its_meaning():
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize("file", ["cli.md", "settings.md", *(f"images/{name}.svg" for name in reference.DRAWN)])
@pytest.mark.usefixtures("app_engine")
def test_what_is_made_from_the_code_is_up_to_date(file):
    pages = {"cli.md": reference.reference, "settings.md": reference.settings}
    made = pages[file]() if file in pages else reference.pictures()[Path(file).name]
    assert (reference.DOCS / file).read_text(encoding="utf-8") == made, "make reference"
