"""A caller of the sagas, in a process of its own: `how` and the hours of tomorrow at which appointments begin.

`run` runs each to its end, `enqueue` has workers do so, `record` puts each on record with a hint to nobody.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import click
from sqlalchemy import text
from sqlalchemy.orm import Session


def main() -> None:
    # Now: importing them reads the environment.
    from sagajobs import AppointmentCreationSaga, BookingRequest, Customer, SagaException
    from sagajobs.root import engine

    how, numbers = sys.argv[1], [int(number) for number in sys.argv[2:]]
    with engine.database.transaction() as db:
        staff = "INSERT INTO staff (id, name, email) VALUES (1, 'Host', 'h@example.com') ON CONFLICT DO NOTHING"
        db.execute(text(staff))
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    ids = []
    for number in numbers:
        request = BookingRequest(
            customer=Customer(name="Mia Secret", email=f"mia.secret{number}@example.org"),
            event_type_id=1,
            start=first + timedelta(hours=number),
            duration_minutes=30,
            staff_id=1,
        )
        if how == "enqueue":
            handle = AppointmentCreationSaga.enqueue(request)
            ids.append([handle.id, handle.wait(120)])
        elif how == "record":
            with engine.database.transaction() as connection, Session(connection) as session:  # never told to commit
                ids.append([AppointmentCreationSaga.enqueue(request, session=session).id, "pending"])
        else:
            try:
                AppointmentCreationSaga.run(request)
            except SagaException as error:
                click.echo(error, err=True)
    click.echo(json.dumps(ids))
