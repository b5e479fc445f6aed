"""Shell completion: what a shell asks, and what it is answered."""

from __future__ import annotations

import subprocess

from sagajobs.cli import completing
from tests.cli.inprocess import sagajobs
from tests.support.asked import ask


def complete(line: str, **environment: str) -> list[str]:
    """Return what is offered for the last word of a line, as bash asks for it."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = sagajobs(_SAGAJOBS_COMPLETE="bash_complete", **words, **environment)
    assert (done.status, done.err) == (0, ""), done
    return [offered.partition(",")[2] for offered in done.out.splitlines() if offered]


def test_commands_options_and_what_the_database_has_are_completed(nobody_told, monkeypatch):
    monkeypatch.setattr(completing, "_TIMEOUT", 60)
    far, near = ask(nobody_told, hours=48), ask(nobody_told, cause="builtins.KeyError", hours=24)
    ids = {far.saga, near.saga}
    assert complete("sagajobs sagas re") == ["review", "retry", "resolve", "resume"]
    assert "--older-than" in complete("sagajobs sagas list --")
    assert complete("sagajobs sagas list --state comp") == ["completed", "compensating", "compensated"]
    for command in ("show", "watch", "pause", "list --before"):
        assert set(complete(f"sagajobs sagas {command} ")) == ids, command
    assert complete(f"sagajobs sagas show {far.saga[:6]}") == [far.saga]
    assert complete(f"sagajobs sagas show {far.saga[:20]}") == [far.saga]
    assert complete("sagajobs sagas show xyz") == []
    assert complete("sagajobs sagas retry ") == [str(near.case), near.saga, str(far.case), far.saga]
    assert str(far.case) in complete(f"sagajobs sagas explain {far.case}")  # with sagas whose ids begin like that
    assert complete("sagajobs sagas retry --cause ") == ["CalcomUnavailable", "KeyError"]
    assert complete("sagajobs sagas retry --cause key") == ["KeyError"]
    assert complete("sagajobs sagas list --name ") == ["appointment_creation"]
    assert "appointment_sync" in complete("sagajobs sagas graph app")


def test_without_a_database_nothing_is_completed_and_nothing_said(tmp_path):
    away = {"SAGAJOBS_DATABASE_URL": "postgresql://someone:hunter2@127.0.0.1:9/nothing"}
    assert complete("sagajobs sagas show ", **away) == []
    assert complete("sagajobs sagas show ", SAGAJOBS_STALL_AFTER="soon") == []
    home = tmp_path / "home"
    assert complete("sagajobs sagas retry ", SAGAJOBS_HOME=str(home), SAGAJOBS_DATABASE_URL=None) == []
    assert not home.exists(), "no embedded server is started for it"


def test_each_shell_is_given_what_it_reads(tmp_path):
    for shell in ("bash", "zsh", "fish"):
        script = sagajobs("completion", shell).out
        assert f"_SAGAJOBS_COMPLETE={shell}_complete" in script
    (tmp_path / "sagajobs").write_text(sagajobs("completion", "bash").out)
    told = subprocess.run(
        ["/usr/bin/env", "bash", "--norc", "-c", "source ./sagajobs && complete -p sagajobs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "-F _sagajobs_completion sagajobs" in told.stdout
    assert sagajobs("completion", "ksh").status == 2
