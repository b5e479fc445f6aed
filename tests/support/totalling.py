"""What all sagas come to, as tests ask for it."""

from __future__ import annotations

from sagajobs.saga.totals import totals


def figures(app_engine) -> dict[tuple[str, str, str, float], int]:
    """Return how many, by kind, measure, label and bucket."""
    with app_engine.database.reading() as connection:
        return {(one.saga, one.measure, one.label, one.upto): one.n for one in totals(connection)}


def counts(app_engine) -> dict[tuple[str, str], int]:
    """Return how many, by measure and label, of all kinds and buckets."""
    found: dict[tuple[str, str], int] = {}
    for (_, measure, label, _), n in figures(app_engine).items():
        found[measure, label] = found.get((measure, label), 0) + n
    return found


def ends(app_engine) -> dict[tuple[str, str], int]:
    """Return how many sagas have ended, by kind and how."""
    found: dict[tuple[str, str], int] = {}
    for (saga, measure, label, _), n in figures(app_engine).items():
        if measure == "execution_ms":
            found[saga, label] = found.get((saga, label), 0) + n
    return found


def sums(app_engine) -> dict[tuple[str, str, str], float]:
    """Return the milliseconds all in all, by kind, measure and label."""
    found: dict[tuple[str, str, str], float] = {}
    with app_engine.database.reading() as connection:
        for one in totals(connection):
            found[one[:3]] = found.get(one[:3], 0.0) + one.total
    return found
