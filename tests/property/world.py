"""What a random history happens in: database, broker, Cal.com, and time, which passes only when a rule says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition
from sqlalchemy import Connection

from sagajobs.booking.outside import METADATA_KEY
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.webhooks import Webhook
from sagajobs.saga import SagaHandle
from sagajobs.saga.sweep import recover
from sagajobs.testing.broker import HandBroker, Message
from sagajobs.testing.simulator import Simulator
from tests.support.fixtures import EMPTY

FIRST = (datetime.now(UTC) + timedelta(days=3)).replace(hour=8, minute=0, second=0, microsecond=0)
CUSTOMERS = [
    {"name": f"Somebody {n}", "email": f"somebody{n}@secret.example", "time_zone": "Europe/Berlin"} for n in range(3)
]
EVENT_TYPES = (1, 7)
"""One that is booked at once, and one that its host confirms first."""

ROUNDS = 100
"""Sweeps after which everything must be at rest: more than the attempts, probes and undos of the longest saga."""

SIGNED = {"who": "Op", "why": "a random history"}

# When a rule makes sense, but never by what is up to chance (which of two threads was faster): histories are repeated.
something = precondition(lambda world: world.booked)
perhaps_a_case = precondition(lambda world: world.waited)

slots = st.integers(0, 3)
event_types = st.sampled_from(EVENT_TYPES)
index = st.integers(0, 1000)

_STAFF = "INSERT INTO staff (id, name, email, calcom_user_id) VALUES (1, 'S', 'h@x.y', 1)"

_LATER = """
    UPDATE sagas SET next_at = created_at WHERE next_at IS NOT NULL;
    UPDATE saga_steps SET lease_until = NULL, due_at = NULL, absent_since = absent_since - interval '3 s'
        WHERE lease_until IS NOT NULL OR due_at IS NOT NULL OR absent_since IS NOT NULL;
    UPDATE saga_locks SET waits_until = saga_now() WHERE NOT held;
    UPDATE review_cases SET look_at = saga_now() WHERE closed_at IS NULL
"""
"""Whatever somebody waits for comes about. What a probe does not see counts after 4 s, and so after two of these, by
which a replica has caught up."""


class Broker(HandBroker):
    """One whose workers survive an error that the engine can make nothing of, and leave the saga to the sweep."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.errors: dict[str, Exception] = {}
        """By saga, the first one; the verdict says whether it is to be borne."""

    def _work(self, message: Message) -> None:
        try:
            super()._work(message)
        except Exception as error:  # noqa: BLE001 - whatever it is
            self.errors.setdefault(message.saga_id, error)
            self.fail(message)


class World(RuleBasedStateMachine):
    """What the rules act on, and what they know beside the tables: what was asked for, told, and done by hand."""

    engine: Any
    db: Connection
    """In autocommit, open all the time: a connection for each look would take longer than the look."""
    simulator: Simulator
    calcom: CalcomClient
    seen: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.broker = self.engine.publisher = Broker(self.engine)
        self.change(f"{EMPTY}; {_STAFF}")
        self.simulator.reset()
        self.asked: list[tuple[str, Mapping[str, Any], str]] = []
        """Bookings: the key of their start, the request, the saga that it led to."""
        self.told: list[Webhook] = []
        """Webhooks."""
        self.booked = False
        """Whether anything was asked for; before that there is nothing to do for most."""
        self.waited = False
        """Whether there was the time for a person to be asked about something."""
        self.targets: dict[str, int] = {}
        """The appointment that a saga was to change."""
        self.by_hand: dict[str, str] = {}
        """Bookings that an operator has made at Cal.com, and the saga for which he did."""
        self.declared: set[str] = set()
        """Sagas that a person has settled by his word alone, or given up."""
        self.lags = 0
        """How often time must pass until the replica goes on."""

    # --- the tables ---

    def rows(self, query: str) -> list[tuple]:
        return [tuple(row) for row in self.db.exec_driver_sql(query)]

    def change(self, statements: str) -> None:
        """Make changes, sent together and so in one transaction."""
        self.db.exec_driver_sql(statements)

    def saga(self, which: int) -> SagaHandle | None:
        """Return one that has not ended, if there is one."""
        ids = self.rows("SELECT id FROM sagas WHERE ended_at IS NULL ORDER BY created_at, id")
        return SagaHandle(str(ids[which % len(ids)][0]), engine=self.engine) if ids else None

    def appointments(self) -> list[int]:
        return [row[0] for row in self.rows("SELECT id FROM appointments ORDER BY id")]

    # --- time ---

    def let_time_pass(self) -> None:
        self.change(_LATER)
        if self.lags:
            self.lags -= 1
            if not self.lags:
                self.simulator.switch(replica_stopped=False, lag_fails_create=False, lag_blinds_cancel=False)

    def settle(self) -> None:
        """Let so much time pass that everything has ended, or waits for a person or for being resumed."""
        for _ in range(ROUNDS):
            self.broker.drain()
            if not self.rows("SELECT id FROM sagas WHERE next_at IS NOT NULL"):
                return
            self.let_time_pass()
            recover(self.engine)
        raise AssertionError(
            f"not at rest: {self.rows('SELECT id, name, state, stage FROM sagas WHERE next_at IS NOT NULL')}"
        )

    def lag(self, **switches: bool) -> None:
        """Have the replica stop until time has passed twice: a probe must bear that, and no more."""
        if not self.lags:
            self.simulator.switch(replica_stopped=True, **switches)
            self.lags = 2

    def catch_up(self) -> None:
        """Let time pass until the replica has caught up."""
        self.let_time_pass()
        while self.lags:
            self.let_time_pass()

    # --- Cal.com as it really is ---

    @staticmethod
    def under(key: str, ledger: list[dict]) -> list[dict]:
        """Return what stands under one of our keys; a move takes it along."""
        return [booking for booking in ledger if booking["metadata"].get(METADATA_KEY) == key and stands(booking)]

    @staticmethod
    def last(uid: str, ledger: list[dict]) -> dict:
        """Return what a booking was moved to."""
        bookings = {booking["uid"]: booking for booking in ledger}
        while bookings[uid].get("rescheduledToUid"):
            uid = bookings[uid]["rescheduledToUid"]
        return bookings[uid]


def stands(booking: Mapping[str, Any]) -> bool:
    return booking["status"] in ("accepted", "pending")


def slot_at(event_type: int, slot: int) -> dict[str, Any]:
    return {"event_type_id": event_type, "start": start_of(slot), "duration_minutes": 30}


def start_of(slot: int) -> datetime:
    return FIRST + timedelta(minutes=30 * slot)
