"""What a shell completes: ids of sagas, numbers of cases, kinds and causes, as the database has them at this moment.

A person waits with his finger on the key: one short query each, found by index, within a second or not at all. Whatever
goes wrong is no completion, and no message in the middle of his line.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import click

_MOST = 30
"""Words that are offered at most: more than that nobody reads."""

_CASES_LOOKED_AT = 500

_TIMEOUT = 1
"""Seconds to reach the database, and for a query."""

_NEWEST = "SELECT id, name, state FROM sagas ORDER BY created_at DESC, id DESC LIMIT :most"

_FROM = "SELECT id, name, state FROM sagas WHERE id BETWEEN CAST(:first AS uuid) AND CAST(:last AS uuid) LIMIT :most"

_OPEN = """
    SELECT c.id, c.saga_id, (SELECT name FROM sagas WHERE id = c.saga_id) AS name, c.step FROM review_cases c
    WHERE c.closed_at IS NULL ORDER BY c.urgent_at NULLS LAST, c.opened_at LIMIT :most
"""

_KINDS = """
    WITH RECURSIVE kinds AS (
        (SELECT name FROM sagas ORDER BY name LIMIT 1)
        UNION ALL
        SELECT (SELECT name FROM sagas WHERE name > kinds.name ORDER BY name LIMIT 1) FROM kinds WHERE name IS NOT NULL
    )
    SELECT name FROM kinds WHERE name IS NOT NULL LIMIT :most
"""
"""Each kind is found in the index from the one before: `DISTINCT` would read every saga."""

_CAUSES = """
    SELECT DISTINCT regexp_replace(class, '^.*[.]', '')
    FROM review_cases c, unnest(ARRAY[c.evidence->'error'->>'class', c.evidence->'probe'->>'class']) AS class
    WHERE c.closed_at IS NULL AND class IS NOT NULL ORDER BY 1 LIMIT :most
"""


def saga_ids(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a saga's id: those that begin so, or the newest."""
    digits = incomplete.replace("-", "").lower()
    if not digits:
        return _items(_ask(_NEWEST))
    if len(digits) > 32 or not set(digits) <= set("0123456789abcdef"):  # noqa: PLR2004 - a UUID
        return []
    first, last = (str(uuid.UUID(digits.ljust(32, end))) for end in "0f")
    return _items(_ask(_FROM, first=first, last=last))


def cases(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the number of an open case, or its saga's id."""
    found = []
    for number, saga_id, name, step in _ask(_OPEN, most=_CASES_LOOKED_AT):
        told = f"{name}, {step}" if step else str(name)
        found += [CompletionItem(str(word), help=told) for word in (number, saga_id) if _begins(word, incomplete)]
    return found[:_MOST]


def kinds(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a kind of which there are sagas."""
    return words((name for (name,) in _ask(_KINDS)), incomplete)


def causes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the class of an error that an open case is about."""
    return words((name for (name,) in _ask(_CAUSES)), incomplete)


def words(known: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return those of some words that begin so, in upper or lower case."""
    return [CompletionItem(word) for word in known if _begins(word, incomplete)]


def _begins(word: object, incomplete: str) -> bool:
    return str(word).lower().startswith(incomplete.lower())


def _items(rows: Sequence[Any]) -> list[CompletionItem]:
    return [CompletionItem(str(saga_id), help=f"{name}, {state}") for saga_id, name, state in rows]


def _ask(statement: str, **values: Any) -> Sequence[Any]:
    try:
        return _answer(statement, {"most": _MOST, **values})
    except Exception:  # noqa: BLE001 - see above
        return ()


def _answer(statement: str, values: dict[str, Any]) -> Sequence[Any]:
    # Imported here: `--help`, too, imports this module.
    from sqlalchemy import NullPool, create_engine, text  # noqa: PLC0415

    from sagajobs.runtime.servers import resolve  # noqa: PLC0415
    from sagajobs.runtime.settings import Settings  # noqa: PLC0415

    url = resolve(Settings.load()).database_if_running
    if url is None:
        return ()
    options = {"connect_timeout": _TIMEOUT, "options": f"-c statement_timeout={_TIMEOUT * 1000}"}
    engine = create_engine(url, poolclass=NullPool, connect_args=options, hide_parameters=True)
    with engine.connect() as connection:
        return connection.execute(text(statement), values).all()
