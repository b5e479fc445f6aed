"""What this application keeps of its own: an order, written in the transaction that starts the saga.

One commit holds both, so there is no order without its saga, and no booking that no page shows.
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Column, DateTime, Engine, Integer, MetaData, Table, Text, func, insert, select, update
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema

metadata = MetaData(schema="webapp")  # not among the tables of sagajobs, whose migrations know nothing of ours

orders = Table(
    "orders",
    metadata,
    Column("token", Text, primary_key=True),
    Column("saga_id", UUID(as_uuid=False), nullable=False, unique=True),
    Column("change_id", UUID(as_uuid=False)),
    Column("appointment_id", Integer),
    Column("offer", Integer, nullable=False),
    Column("starts_at", DateTime(timezone=True), nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("ordered_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


class Order(NamedTuple):
    """An order.

    Attributes:
        token: what its page is found by; nobody can guess it, and nobody but the customer is told.
        saga_id: the saga that books it.
        change_id: the saga of the latest change that was asked for, None if none was.
        appointment_id: what was booked, None until it is: sagas are purged, and appointments may lie farther ahead.
        offer: what was ordered, Cal.com's number for the event type.
        starts_at: when, as it was ordered.
        time_zone: the customer's.
    """

    token: str
    saga_id: str
    change_id: str | None
    appointment_id: int | None
    offer: int
    starts_at: datetime
    time_zone: str


_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
_COLUMNS = [orders.c[name] for name in Order._fields]


def create(engine: Engine) -> None:
    """Make the table, if it is not there."""
    with engine.begin() as connection:
        connection.execute(CreateSchema("webapp", if_not_exists=True))
        metadata.create_all(connection)


def add(session: Session, saga_id: str, offer: int, starts_at: datetime, time_zone: str) -> str:
    """Write an order; return its token."""
    token = secrets.token_urlsafe(24)
    values = {"token": token, "saga_id": saga_id, "offer": offer, "starts_at": starts_at, "time_zone": time_zone}
    session.execute(insert(orders).values(values))
    return token


def token_of(session: Session, saga_id: str) -> str:
    """Return the token of the order that a saga books; it was written in the commit that started the saga."""
    token: str = session.scalars(select(orders.c.token).where(orders.c.saga_id == saga_id)).one()
    return token


def find(session: Session, token: str, *, lock: bool = False) -> Order | None:
    """Return an order by its token, None if there is none.

    Args:
        session: the session.
        token: as somebody has sent it.
        lock: lock the row until the end of the transaction: of two changes that are asked for at once one is first.
    """
    if not _TOKEN.fullmatch(token):
        return None
    wanted = select(*_COLUMNS).where(orders.c.token == token)
    row = session.execute(wanted.with_for_update() if lock else wanted).first()
    return None if row is None else Order(*row)


def note_change(session: Session, token: str, change_id: str) -> None:
    """Note which saga changes it."""
    session.execute(update(orders).where(orders.c.token == token).values(change_id=change_id))


def note_appointment(session: Session, token: str, appointment_id: int) -> None:
    """Note what was booked."""
    session.execute(update(orders).where(orders.c.token == token).values(appointment_id=appointment_id))
