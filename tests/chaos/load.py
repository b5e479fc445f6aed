"""The load: sagas of all kinds, started at a steady rate, each under a key of its own until its start is certain."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, CompositeBookingSaga
from sagajobs.cli.demo.scenario import HOSTS, MINUTES
from sagajobs.errors import InvalidInput
from tests.support.patience import patiently

MOST_UNDER_WAY = 150
"""Sagas that may be under way until no more are started: a load, not a queue that only grows."""

UPDATE_EVERY = 20.0
"""Seconds between two updates: Cal.com takes five changes of guests a minute, and all others would wait for hours."""

_UNDER_WAY = text("SELECT count(*) FROM sagas WHERE next_at IS NOT NULL")
_STANDING = """
    deleted_at IS NULL AND status IN ('scheduled', 'confirmed', 'rescheduled') AND calcom_v2_booking_id IS NOT NULL
"""
_CHANGEABLE = text(f"""
    SELECT id FROM appointments WHERE {_STANDING} ORDER BY id
    OFFSET floor(:share * (SELECT count(*) FROM appointments WHERE {_STANDING})) LIMIT 1
""")


class Load:
    """Starts sagas until it is told to stop.

    Args:
        engine: theirs.
        rate: sagas a second.
        dice: what is started.

    Attributes:
        keys: those of all sagas that have been started for certain.
        failure: what has ended it before its time.
    """

    def __init__(self, engine: Any, rate: float, dice: Random) -> None:
        self._engine = engine
        self._pause = 1 / rate
        self._dice = dice
        self._number = 0
        self._first = (datetime.now(UTC) + timedelta(days=2)).replace(hour=8, minute=0, second=0, microsecond=0)
        self._next_update = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self.keys: set[str] = set()
        self.failure: BaseException | None = None

    def begin(self) -> None:
        """Start starting."""
        self._thread.start()

    def stop(self) -> None:
        """Start no more."""
        self._over.set()
        self._thread.join()

    def end(self) -> None:
        """Start no more; raises what has ended the load before its time."""
        self.stop()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                began = time.monotonic()
                if self._ask(_UNDER_WAY) < MOST_UNDER_WAY:
                    self._start_one()
                self._over.wait(max(0.0, self._pause - (time.monotonic() - began)))
        except BaseException as error:  # noqa: BLE001 - raised again where the siege ends
            self.failure = error

    def _start_one(self) -> None:
        roll = self._dice.random()
        if roll < 0.55:
            self._start(AppointmentCreationSaga, self._booking)
        elif roll < 0.7:
            slots = [self._slot() for _ in range(self._dice.choice((2, 2, 3)))]
            self._start(CompositeBookingSaga, lambda: (self._customer(), slots))
        else:
            self._change()

    def _booking(self) -> tuple[dict[str, Any]]:
        slot = self._slot()
        # Every tenth asks for its host by name, so that our own table defends the slot, too.
        staff = {"staff_id": slot["event_type_id"]} if self._number % 10 == 0 else {}
        return ({"customer": self._customer(), **slot, **staff},)

    def _change(self) -> None:
        appointment = self._ask(_CHANGEABLE, share=self._dice.random())
        if appointment is None:
            return
        operation = self._dice.choice(("cancel", "reschedule", "reschedule"))
        if time.monotonic() > self._next_update:
            self._next_update = time.monotonic() + UPDATE_EVERY
            operation = "update"
        data = {
            "cancel": {"reason": "cannot come"},
            "reschedule": {"start": self._slot()["start"]},
            "update": {"guests": [f"guest{self._number}@example.org"]},
        }[operation]
        self._start(AppointmentSyncSaga, lambda: (appointment, operation, data))

    def _start(self, kind: Any, request: Callable[[], tuple[Any, ...]]) -> None:
        """Start a saga as a web application would: again under the same key until it knows that it has."""
        self._number += 1
        key, arguments = f"chaos-{self._number}", request()
        with contextlib.suppress(InvalidInput):  # it makes no sense as things stand, and starts nothing
            patiently(lambda: kind.enqueue(*arguments, idempotency_key=key))
            self.keys.add(key)

    def _ask(self, query: Any, **values: Any) -> Any:
        def ask() -> Any:
            with self._engine.database.reading() as connection:
                return connection.execute(query, values).scalar()

        return patiently(ask)

    def _slot(self) -> dict[str, Any]:
        self._number += 1
        place = self._number - HOSTS if self._number % 23 == 0 else self._number  # now and then a slot that is taken
        return {
            "event_type_id": place % HOSTS + 1,
            "start": self._first + timedelta(minutes=MINUTES) * (place // HOSTS),
            "duration_minutes": MINUTES,
        }

    def _customer(self) -> dict[str, str]:
        number = self._dice.randrange(500)
        return {"name": f"Customer {number}", "email": f"customer{number}@example.org", "time_zone": "Europe/Berlin"}
