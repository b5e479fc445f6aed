"""Sagas about which a person is asked, put on record as they stand: what it took to come to that is for other tests."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from sqlalchemy import text

_SAGA = text("""
    INSERT INTO sagas (id, name, version, definition, state, stage, input)
    VALUES (:id, 'appointment_creation', 1, :definition, 'manual_review_required', :stage, CAST(:input AS jsonb))
""")

_STEP = text("""
    INSERT INTO saga_steps (saga_id, name, position, stage, external, state, attempts, output, error)
    VALUES (:id, :name, :position, :position, :external, :state, 1, CAST(:output AS jsonb), CAST(:error AS jsonb))
""")

_EVENT = text("INSERT INTO saga_events (saga_id, event, step) VALUES (:id, :event, :step)")

_CASE = text("""
    INSERT INTO review_cases (saga_id, step, reason, evidence, urgent_at, opened_at, look_at, alert_at)
    SELECT :id, :step, 'it failed', CAST(:evidence AS jsonb), :start, opened, opened + interval '1 day',
        opened + interval '1 day'
    FROM (SELECT saga_now() - make_interval(secs => :ago) AS opened) o RETURNING id
""")

_ORPHAN = text("""
    INSERT INTO audit_log (actor, action, entity, entity_id, detail)
    VALUES ('sagajobs', 'reconcile.orphan', 'calcom_booking', 17, CAST(:detail AS jsonb)) RETURNING id
""")


class Asked(NamedTuple):
    """A case, and its saga."""

    case: int
    saga: str


def ask(
    engine,
    *,
    step: str = "create_customer",
    cause: str = "sagajobs.calcom.errors.CalcomUnavailable",
    hours: int = 24,
    ago: float = 0.0,
) -> Asked:
    """Record a booking of which a step has failed, so that a person is asked.

    Args:
        engine: in whose database.
        step: which one; those before it are done, and came to an appointment that there is not.
        cause: the error's class; its message, which quotes a customer, ends with `ConnectTimeout`.
        hours: from now, when the appointment begins.
        ago: seconds for which somebody has been asked.
    """
    from sagajobs import AppointmentCreationSaga

    saga_id, start = str(uuid.uuid4()), datetime.now(UTC) + timedelta(hours=hours)
    customer = {"name": "Mia Secret", "email": "mia.secret@example.org", "time_zone": "UTC"}
    wanted = {"customer": customer, "event_type_id": 1, "start": start.isoformat(), "duration_minutes": 30}
    definition = AppointmentCreationSaga.definition
    failed = definition.names.index(step)
    error = {"step": step, "class": cause, "message": "for mia.secret: no connection, ConnectTimeout", "attempt": 1}
    with engine.database.transaction() as db:
        about = {"definition": definition.traits, "stage": failed, "input": json.dumps(wanted)}
        db.execute(_SAGA, {"id": saga_id, **about})
        for position, one in enumerate(definition.steps):
            values = {
                "state": "done" if position < failed else "failed" if position == failed else "waiting",
                "output": json.dumps({"customer_id": 1, "appointment_id": 1}) if position < failed else None,
                "error": json.dumps(error) if position == failed else None,
            }
            place = {"name": one.name, "position": position, "external": one.external}
            db.execute(_STEP, {"id": saga_id, **place, **values})
        for event, about_step in (("saga_created", None), ("step_failed", step), ("review_required", step)):
            db.execute(_EVENT, {"id": saga_id, "event": event, "step": about_step})
        evidence = json.dumps({"error": error})
        number = db.execute(
            _CASE, {"id": saga_id, "step": step, "evidence": evidence, "start": start, "ago": ago}
        ).scalar_one()
    return Asked(number, saga_id)


def left_to_a_person(engine) -> int:
    """Put an orphan on record, as reconciling does, and return the finding's number."""
    found = {"uid": "u17", "starts_at": "2040-05-01T09:00:00+00:00"}
    with engine.database.transaction() as db:
        return db.execute(_ORPHAN, {"detail": json.dumps(found)}).scalar_one()


@pytest.fixture
def nobody_told(app_engine, clean, monkeypatch):
    """An empty database, no worker that would hear of what is set going, and nothing left of it afterwards."""
    monkeypatch.setattr(app_engine, "publisher", None)
    yield app_engine
    with app_engine.database.transaction() as db:
        db.execute(text("DELETE FROM sagas"))
