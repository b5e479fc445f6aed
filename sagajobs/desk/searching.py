"""Finding sagas by what a person has in hand: an id, an appointment's number, a booking's uid, a customer's word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, text

from sagajobs.desk import queries
from sagajobs.desk.documents import public_status
from sagajobs.desk.queries import ListedSaga
from sagajobs.errors import InvalidInput
from sagajobs.saga import Engine, SagaState
from sagajobs.saga.schema import sagas
from sagajobs.saga.store import Store

FOUND = 50
"""Sagas that a search returns at most."""

LOOKS = 500
"""Sagas that are looked at, for one page, for what a customer is told of them: some 0.1 s."""

_BATCH = 100

_LONGEST = 200
"""Characters of what is searched for."""

_LONGEST_NUMBER = 18
"""Digits of an appointment's number: a bigint."""

_S = SagaState
_FORWARD = (_S.PENDING, _S.RUNNING, _S.PARTIAL, _S.PAUSED)

STATES_OF: Mapping[str, tuple[SagaState, ...]] = {
    "held": (*_FORWARD, _S.COMPLETED, _S.COMPENSATED),
    "confirming": (*_FORWARD, _S.COMPLETED, _S.COMPENSATED),
    "confirmed": (*_FORWARD, _S.COMPLETED, _S.COMPENSATED),
    "being cancelled": (*_FORWARD, _S.COMPENSATING),
    "cancelled": (_S.COMPLETED, _S.COMPENSATED),
    "needs us": (_S.MANUAL_REVIEW_REQUIRED,),
}
"""A customer's words, and the states in which a saga can have each; no other saga is looked at for it."""


@dataclass(frozen=True, slots=True)
class Told:
    """A page of the sagas of which a customer is told the same.

    Attributes:
        rows: those found.
        goes_on_at: the id of the last one looked at, None if there are no more to look at.
    """

    rows: list[ListedSaga]
    goes_on_at: str | None


def told(
    connection: Connection,
    engine: Engine,
    word: str,
    *,
    state: SagaState | None = None,
    name: str | None = None,
    older_than: float = 0.0,
    before: str | None = None,
    limit: int,
) -> Told:
    """Return sagas of which a customer is told `word`, the newest first.

    Only a saga's class can say what that is, so candidates are walked, a bounded number of them; a page may hold fewer
    than `limit`, and the next one goes on.

    Args:
        connection: to read on.
        engine: knows the classes.
        word: one of `STATES_OF`.
        state: as for `queries.saga_list`.
        name: likewise.
        older_than: likewise.
        before: likewise.
        limit: likewise.

    Raises:
        InvalidInput: it is none of the words.
    """
    if word not in STATES_OF:
        raise InvalidInput(f"no customer is told {word!r}; it is one of {', '.join(STATES_OF)}")
    states = [one for one in STATES_OF[word] if state in (None, one)]
    at, found, looks = before, list[str](), 0
    while looks < LOOKS:
        batch = _candidates(connection, states, name=name, older_than=older_than, before=at)
        records = Store(connection).read_all(batch)
        for saga_id in batch:
            at, looks = saga_id, looks + 1
            if saga_id not in records:  # purged meanwhile
                continue
            if public_status(engine, records[saga_id]) == word:
                found.append(saga_id)
            if len(found) == limit:
                return Told(queries.sagas_listed(connection, found), at)
        if len(batch) < _BATCH:
            return Told(queries.sagas_listed(connection, found), None)
    return Told(queries.sagas_listed(connection, found), at)


def _candidates(
    connection: Connection, states: Sequence[SagaState], *, name: str | None, older_than: float, before: str | None
) -> list[str]:
    query: Any = select(sagas.c.id).where(sagas.c.state.in_(states))
    if SagaState.COMPLETED not in states:
        query = query.where(sagas.c.state != SagaState.COMPLETED)  # so that the index on the others serves
    last = queries.last_seen(connection, before)
    query = queries.narrowed(query, name=name, older_than=older_than, last=last)
    return [str(found) for found in connection.scalars(query.order_by(*queries.NEWEST_FIRST).limit(_BATCH))]


_BY_APPOINTMENT = text("""
    WITH about AS MATERIALIZED (
        SELECT id, created_at FROM sagas WHERE input->>'appointment_id' = CAST(:number AS text)
    ), noted AS MATERIALIZED (
        SELECT id, saga_id FROM audit_log
        WHERE entity = 'appointment' AND entity_id = :number AND saga_id IS NOT NULL
    )
    SELECT saga_id FROM appointments WHERE id = :number AND saga_id IS NOT NULL
    UNION SELECT sync_saga_id FROM appointments WHERE id = :number AND sync_saga_id IS NOT NULL
    UNION SELECT c.saga_id FROM appointments a JOIN composite_bookings c ON c.id = a.composite_id
        WHERE a.id = :number AND c.saga_id IS NOT NULL
    UNION (SELECT id FROM about ORDER BY created_at DESC LIMIT :limit)
    UNION (SELECT saga_id FROM noted ORDER BY id DESC LIMIT :limit)
""")
"""Sagas that made an appointment, changed it, or are about to. What is about it is few, so it is found first and sorted
then; asked at once, the database reads the newest of all sagas and hopes that one of them is about it."""

_BY_UID = text("""
    SELECT id FROM appointments WHERE calcom_v2_booking_id = :uid
""")

_BRINGING = text("""
    SELECT id FROM sagas WHERE input->>'calcom_booking_uid' = :uid LIMIT :limit
""")


def search(connection: Connection, wanted: str) -> list[ListedSaga]:
    """Return the sagas that a person means, the newest first, `FOUND` at most.

    Args:
        connection: to read on.
        wanted: an id or 8 and more characters of its beginning, an appointment's number, or a booking's uid at
            Cal.com.

    Raises:
        InvalidInput: it is none of these; one line.
    """
    wanted = wanted.strip()
    if not wanted.isprintable() or not 0 < len(wanted) <= _LONGEST:
        raise InvalidInput(
            "search for a saga's id or its first 8 characters, an appointment's number, or a booking's uid"
        )
    found: set[str] = set()
    if wanted.isascii() and wanted.isdecimal() and len(wanted) <= _LONGEST_NUMBER:
        found |= _about(connection, int(wanted))
    found |= set(queries.ids_from(connection, wanted, FOUND))
    for appointment in connection.scalars(_BY_UID, {"uid": wanted}).all():
        found |= _about(connection, appointment)
    found |= set(map(str, connection.scalars(_BRINGING, {"uid": wanted, "limit": FOUND})))
    return queries.sagas_listed(connection, sorted(found))[:FOUND]


def _about(connection: Connection, appointment: int) -> set[str]:
    return set(map(str, connection.scalars(_BY_APPOINTMENT, {"number": appointment, "limit": FOUND})))
