"""Every command that is deployed is one that our programs take; those of the pages are tests/test_shell_lines.py's."""

from __future__ import annotations

import pytest
from flower.command import is_flower_option

from tests.cli.conftest import Shell
from tests.deploy.files import commands

WRITTEN = list(commands())


@pytest.mark.parametrize(("argv"), [argv for _, argv in WRITTEN], ids=[where for where, _ in WRITTEN])
def test_it_is_taken(argv, tmp_path):
    # With --help at its end each option before it is parsed, and nothing is done.
    shell = Shell(tmp_path, {})
    if argv[0] == "sagajobs":
        done = shell.sagajobs(*argv[1:], "--help")
    else:
        assert argv[:3] == ["celery", "-A", "sagajobs"]
        done = shell.celery(*argv[3:], "--help")
        if argv[3] == "flower":
            assert [one for one in argv[4:] if not is_flower_option(one)] == []
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("Usage: ")


def test_a_mistyped_one_would_be_noticed(tmp_path):
    shell = Shell(tmp_path, {})
    assert shell.sagajobs("webhooks", "--prot=8080", "--help").status == 2
    assert shell.celery("worker", "--without-gosip", "--help").status == 2
    assert not is_flower_option("--adress=0.0.0.0")


def test_there_are_those_that_there_should_be():
    said = {tuple(argv[:5]) for _, argv in WRITTEN}
    assert ("sagajobs", "db", "upgrade") in said
    assert {argv[3] for argv in said if argv[0] == "celery"} >= {"worker", "beat", "flower"}
    assert len(WRITTEN) > 10
