"""`completion`: what a shell reads so that it completes our commands."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from sagajobs.cli.help import examples

PROGRAM = "sagajobs"
_VARIABLE = "_SAGAJOBS_COMPLETE"
_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


class _Shell(click.Choice[str]):
    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        """Say it in one line, and not in one for each."""
        del param, ctx
        return f"Choose from {', '.join(self.choices)}"


@click.command(
    epilog=examples(
        "bash   sagajobs completion bash > ~/.local/share/bash-completion/completions/sagajobs",
        "zsh    sagajobs completion zsh > ~/.zfunc/_sagajobs   (~/.zfunc in $fpath, before compinit)",
        "fish   sagajobs completion fish > ~/.config/fish/completions/sagajobs.fish",
    )
)
@click.argument("shell", metavar="SHELL", type=_Shell(list(_SHELLS)))
def completion(*, shell: str) -> None:
    """Print what has a shell complete commands and options, and ids, cases, kinds and causes as the database has them.

    bash has to be 4.4 or newer. It completes what is typed after `sagajobs`, not after `celery`.
    """
    from sagajobs.cli.program import main  # noqa: PLC0415 - it names this module, too

    click.echo(_SHELLS[shell](main, {}, PROGRAM, _VARIABLE).source())
