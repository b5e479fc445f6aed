"""`docs/cli.md`, `docs/settings.md` and the pictures of the booking sagas, from the code: `make reference`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from sagajobs.cli.exits import MEANINGS
from sagajobs.runtime.settings import BY_FILE, Settings, variable_of

DOCS = Path(__file__).parent.parent / "docs"

DRAWN = ("appointment_creation", "appointment_sync", "composite_booking", "appointment_follow")
"""The sagas whose pictures docs/how-a-saga-works.md and docs/design.md show."""

TYPED = ("sagajobs ", "celery ", "curl ")
"""How a block below the options begins that is to be typed."""

_HEAD = """# The command line

`sagajobs` is for people and for programs. This page is made from the commands themselves (`make reference`); each says
the same with `--help`, which asks no server and needs no setting.

- `celery -A sagajobs sagas …` takes the same commands: `celery -A sagajobs sagas show ID`, `… sagas invariants`. After
  `sagajobs` the word `sagas` may be left out: `sagajobs show ID`.
- On a terminal, tables are drawn, in colours unless `NO_COLOR` is set; long work shows a bar. 80 columns are enough:
  cells are wrapped, none is cut, and of a saga's id its beginning is shown, as long as it takes to tell it from the
  others there. In a pipe the same is plain text in columns, with whole ids. `--json` prints one document, of `watch`
  one object a line.
- An id may be given by its first 8 characters; a case also by its number.
- What may be about a person is shown with `--private` only; without it, `…` stands in its place.
- What goes wrong is one line on standard error that says what to do. Of what was typed wrong it comes last, below how
  the command is typed.

## Exit status

| status | meaning |
| ---: | --- |
"""

_BETWEEN = """
## Many cases at once

When something outside was broken for an hour, what waits for a person waits for one reason. `sagajobs sagas stats`
counts by cause, and `retry` takes all cases up that have one:

```sh
sagajobs sagas retry --cause ConnectTimeout --dry-run
sagajobs sagas retry --cause ConnectTimeout --why "Cal.com is back"
```

The cause is the class of the error, or words from its message, as a class says what a call means and its message what
went wrong on the way. `--name`, `--step` and `--older-than` narrow it. Each case is settled as if it had been named: in
its own transaction, judged anew, with a line of history that says who and why. One that takes no such remedy, or that
somebody else has settled meanwhile, is told and passed over, and the exit status is 6. Ctrl-C ends it between two
cases; typed again, it goes on with what is left. `--rate` (30 a minute) leaves others their share of Cal.com's quota:
a case that is set going again looks there, or undoes something there, and these calls queue behind nobody.

`skip` and `abandon` take the same options, as each is one decision for all. `resolve` does not: it says what stands at
Cal.com, and that is another thing for each booking.

## Completion

```sh
sagajobs completion bash > ~/.local/share/bash-completion/completions/sagajobs
sagajobs completion zsh > ~/.zfunc/_sagajobs          # ~/.zfunc in $fpath, before compinit
sagajobs completion fish > ~/.config/fish/completions/sagajobs.fish
```

Commands and options are completed, and ids, cases, kinds and causes as the database has them. An embedded database is
not started for that, and one that does not answer within a second completes nothing.

## Commands
"""


_SETTINGS = """# Settings

Variables of the environment, the same for every process. This page is made from the code (`make reference`);
`sagajobs settings` says what holds where you type it, and where that comes from. A wrong value, or a name that is none,
is an error of one line at the start. What Celery itself takes is set in `celeryconfig.py`.

*or by file*: the name with `_FILE` behind it may name a file that holds the value
([secrets](deployment.md#secrets)).

| variable | default | what it is |
| --- | --- | --- |
"""

_DEFAULTS = {
    "database_url": "an embedded server",
    "broker_url": "an embedded server",
    "redis_url": "an embedded server",
    "calcom_url": "the simulator, unless a database is set",
    "home": "`~/.local/state/sagajobs`; for root, or without a home, `/var/lib/sagajobs`",
}
"""What is not one value, in words."""


def settings() -> str:
    """Return `docs/settings.md`."""
    rows = "".join(
        f"| `{variable_of(name)}`{', or by file' if name in BY_FILE else ''} | "
        f"{_DEFAULTS.get(name) or _default(field.default)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )
    return f"{_SETTINGS}{rows}"


def _default(value: object) -> str:
    return "–" if value in (None, "") else f"`{value:g}`" if type(value) is float else f"`{value}`"


def reference() -> str:
    """Return `docs/cli.md`."""
    from sagajobs.cli import main

    statuses = "".join(f"| {int(status)} | {meaning} |\n" for status, meaning in MEANINGS.items())
    commands = "".join(f"\n{_section(path, command)}" for path, command in leaves(main, ("sagajobs",)))
    return f"{_HEAD}{statuses}{_BETWEEN}{commands}"


def leaves(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below a group that is listed there, with what is typed for it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


def _section(path: tuple[str, ...], command: click.Command) -> str:
    arguments = [one.metavar or one.name.upper() for one in command.params if isinstance(one, click.Argument)]
    options = [one for one in command.params if isinstance(one, click.Option)]
    rows = "".join(f"| {_option(one)} | {_meaning(one)} |\n" for one in options)
    table = f"\n| option | meaning |\n| --- | --- |\n{rows}" if rows else ""
    help_text = inspect.cleandoc(command.help or "")
    return f"### `{' '.join((*path, *arguments))}`\n\n{help_text}\n{table}{_epilog(command.epilog or '')}"


def _option(option: click.Option) -> str:
    names = ", ".join(option.opts)
    if option.is_flag:
        return f"`{names}`"
    if isinstance(option.type, click.Choice):
        return f"`{names}` " + ", ".join(f"`{choice}`" for choice in option.type.choices)
    return f"`{names} {option.metavar or ('FILE' if isinstance(option.type, click.Path) else 'N')}`"


def _meaning(option: click.Option) -> str:
    default = f" Default: `{option.default}`." if option.show_default else ""
    needed = " Required." if option.required else ""
    return f"{option.help or ''}{default}{needed}".replace("|", "\\|")


def _epilog(epilog: str) -> str:
    """Return what stands below the options: paragraphs, and what is marked as already set."""
    parts = []
    for paragraph in epilog.strip().split("\n\n"):
        lines = paragraph.split("\n")
        if lines[0] == "\b":
            parts.append(_block(inspect.cleandoc("\n".join(lines[1:]))))
        elif paragraph.strip() != "Examples:":
            parts.append(paragraph.strip())
    return "".join(f"\n{part}\n" for part in parts)


def _block(content: str) -> str:
    language = "sh" if content.startswith(TYPED) else "text"
    return f"```{language}\n{content}\n```"


def pictures() -> dict[str, str]:
    """Return the pictures of the booking sagas, by the names of their files."""
    from sagajobs.desk.diagram import diagram, svg
    from sagajobs.root import engine

    return {f"{name}.svg": svg(diagram(engine.kinds[name].definition)) for name in DRAWN}


if __name__ == "__main__":
    (DOCS / "cli.md").write_text(reference(), encoding="utf-8")
    (DOCS / "settings.md").write_text(settings(), encoding="utf-8")
    for file, picture in pictures().items():
        (DOCS / "images" / file).write_text(picture, encoding="utf-8")
