"""`sagas graph`: a kind of saga, drawn from its definition."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sagajobs.cli import application, completing
from sagajobs.cli.help import examples
from sagajobs.cli.output import json_option, print_json
from sagajobs.desk.diagram import diagram, mermaid, svg

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_WRITERS = {"mermaid": mermaid, "svg": svg}


def _known(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return completing.words(application.engine().kinds, incomplete)


@click.command(
    epilog=examples(
        "sagajobs sagas graph appointment_creation",
        "sagajobs sagas graph composite_booking --format svg --out composite_booking.svg",
    )
)
@click.argument("name", shell_complete=_known)
@click.option(
    "--format", "form", type=click.Choice(list(_WRITERS)), default="mermaid", show_default=True, help="What to write."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it there instead of printing it.",
)
@json_option
def graph(*, name: str, form: str, out: Path | None, as_json: bool) -> None:
    """Draw a kind of saga from its definition.

    NAME is the kind's name, such as appointment_creation. The picture shows its steps, which of them run side by side,
    the pivot, and the way back, from undo to undo. No database is asked.
    """
    application.load_kind(name)
    kinds = application.engine().kinds
    if name not in kinds:
        raise click.UsageError(f"there is no kind of saga {name!r}: choose from {', '.join(sorted(kinds))}")
    drawn = diagram(kinds[name].definition)
    if as_json:
        print_json(asdict(drawn))
        return
    written = _WRITERS[form](drawn)
    if out is None:
        click.echo(written, nl=False)
        return
    try:
        out.write_text(written, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {out}: {error.strerror or error}") from None
