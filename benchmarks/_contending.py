"""The Celery app of the lock benchmark's workers: the real one, with a saga that does little else than hold a lock."""

from __future__ import annotations

import threading
from typing import Any

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs.root import app, engine
from sagajobs.saga import Saga, step

__all__ = ["Contending", "app", "engine"]

CALL = 0.02
"""Seconds that the call of an external step takes here; a call to Cal.com takes longer, and holds the lock as long."""


class Wanted(BaseModel):
    appointment: int


class Contending(Saga):
    """Three steps, of which one external, on an appointment that others want as well."""

    name = "contending"
    Input = Wanted

    def locks(self) -> list[str]:
        """Return the appointment's."""
        return [f"appointment:{self.input.appointment}"]

    @step(irreversible=True)
    def begin(self, db: Session) -> None:
        """Note when the lock was there."""
        db.execute(
            text("INSERT INTO contending (saga_id, appointment) VALUES (:id, :appointment)"),
            {"id": self.id, "appointment": self.input.appointment},
        )

    @step(external=True, irreversible=True, idempotent=True)
    def call(self, _key: str) -> None:
        """Take as long as a call takes."""
        threading.Event().wait(CALL)

    @step(irreversible=True)
    def end(self, _db: Session) -> Any:
        """Do nothing; the lock is handed on in the commit of this step."""
        return None


engine.register(Contending)
