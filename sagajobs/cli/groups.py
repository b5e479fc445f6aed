"""Groups of commands that load a command when it is asked for, and say every error in one line.

Only click is imported here: the group `sagas` is loaded by every `celery …` process on the machine.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find what was typed; raises `click.UsageError` that names what may be meant if there is no such command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            near = difflib.get_close_matches(args[0], self._taken_at, 1)
            if not near:
                raise
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {near[0]!r}?", ctx) from None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what was typed; raises `click.UsageError` where it is no text, which no database takes."""
        for one in args:
            if any("\ud800" <= character <= "\udfff" for character in one):
                raise click.UsageError(f"{one!r} is no text in UTF-8", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what goes wrong in a way that we know becomes one line and exit status 1."""
        _open_what_is_closed()
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            line = one_line(error)
            if line is None:
                raise
        # Outside the handler: what the error holds (statements, URLs) must not follow it into a traceback.
        raise click.ClickException(line)


def _open_what_is_closed() -> None:
    """Have standard streams that the caller has closed (`>&-`) lead nowhere, where Python has None in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open until the end


_WHICH_SAGAS = "; `sagajobs list` shows which there are"

_WHICH_CASES = "; `sagajobs review --list` shows which are open"


def one_line(error: Exception) -> str | None:
    """Return what a person is told of `error`, None for what is a bug and deserves its traceback."""
    # Imported here: by now the command has loaded them, and a `celery` process of others never comes here.
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from sagajobs.errors import CaseNotFound, SagajobsError, SagaNotFound  # noqa: PLC0415

    if isinstance(error, DBAPIError):
        # The statement and its parameters stand in the later lines; the first one is the server's own word.
        again = "; type it again when it is back" if error.connection_invalidated else ""
        return f"the database failed: {first_line(str(error.orig))}{again}"
    if isinstance(error, SagajobsError):
        then = {SagaNotFound: _WHICH_SAGAS, CaseNotFound: _WHICH_CASES}.get(type(error), "")
        return first_line(str(error)) + then
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"what was to be shown cannot be written: {error.strerror}"
    from sagajobs.desk.brokererrors import BROKER_ERRORS  # noqa: PLC0415 - only now: nobody else needs those libraries

    if isinstance(error, BROKER_ERRORS):
        said = first_line(str(error)).rstrip(".") or type(error).__name__
        return f"the broker, or Redis, failed: {said}; type it again when it is back"
    return None


def first_line(text: str) -> str:
    """Return what is said first: the other lines of an error may quote what was stored."""
    return text.strip().partition("\n")[0]
