"""Groups of commands that load a command when it is asked for, and say every error in one line.

Only click is imported here: the group `sagas` is loaded by every `celery …` process on the machine.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported when they are needed.

    Args:
        commands_at: command name to ``module:attribute``.
        also_at: likewise, commands of a neighbour that are taken here, too, and not listed.
    """

    def __init__(
        self, *args: Any, commands_at: Mapping[str, str], also_at: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._commands_at = dict(commands_at)
        self._taken_at = {**(also_at or {}), **commands_at}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which they are declared: related ones stand together."""
        del ctx
        return list(self._commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return the command, None if there is none of that name."""
        del ctx
        if cmd_name not in self._taken_at:
            return None
        module, _, attribute = self._taken_at[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what goes wrong in a way that we know becomes one line and exit status 1."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            line = _one_line(error)
            if line is None:
                raise
        # Outside the handler: what the error holds (statements, URLs) must not follow it into a traceback.
        raise click.ClickException(line)


def _one_line(error: Exception) -> str | None:
    """Return what a person is told of `error`, None for what is a bug and deserves its traceback."""
    # Imported here: by now the command has loaded them, and a `celery` process of others never comes here.
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from sagajobs.errors import SagajobsError  # noqa: PLC0415

    if isinstance(error, DBAPIError):
        # The statement and its parameters stand in the later lines; the first one is the server's own word.
        return f"the database failed: {_first_line(str(error.orig))}"
    if isinstance(error, SagajobsError):
        return _first_line(str(error))
    return None


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
