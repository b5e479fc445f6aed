"""The tables themselves: changed past the engine, and everything in them, for tests that say that nothing changed."""

from __future__ import annotations

from sqlalchemy import Connection, text


def dump(db: Connection, *, without: tuple[str, ...] = ()) -> dict[str, list[tuple]]:
    """Return every row of every table, by table; not which processes there are, as those of an earlier test may go."""
    names = db.execute(
        text(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' "
            "AND tablename NOT IN ('alembic_version', 'saga_owners')"
        )
    ).scalars()
    return {
        name: [tuple(row) for row in db.execute(text(f'SELECT t.*::text FROM "{name}" t ORDER BY 1'))]
        for name in names.all()
        if name not in without
    }


def change(engine, statement: str, **values) -> None:
    """Change rows past the engine."""
    with engine.database.transaction() as connection:
        connection.execute(text(statement), values)
